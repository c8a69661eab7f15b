"""The commands `shoplens demo`, `stop` and `status`."""

from rich.console import Console

from shoplens.settings import load_settings


def demo() -> None:
    """Run the whole platform on this machine and leave the service answering."""
    from shoplens.local.demo import run_demo

    run_demo(load_settings(), Console(highlight=False, soft_wrap=True))


def stop() -> None:
    """End exactly what `demo` started, children too."""
    from shoplens.local.processes import end_all

    count = end_all(load_settings())
    Console(highlight=False).print(f"ended {count} processes" if count else "nothing was running")


def status() -> None:
    """Say what is running, where, and what is in service."""
    from shoplens.local.processes import marked

    settings = load_settings()
    console = Console(highlight=False, soft_wrap=True)
    found = marked(settings)
    for process, part in found:
        console.print(f"{part:14} pid {process.pid}")
    if not found:
        console.print("nothing is running")
    current = settings.var_dir / "service/current"
    console.print(f"in service: {current.resolve().name if current.exists() else 'nothing'}")
