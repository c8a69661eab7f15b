"""The commands `shoplens demo`, `stop` and `status`."""

import typer
from rich.console import Console

from shoplens.settings import load_settings

_INTERRUPTED = 130  # as a shell gives it for SIGINT


def demo() -> None:
    """Run the whole platform on this machine and leave the service answering; Ctrl-C leaves it running."""
    from shoplens.local.demo import after_interrupt, run_demo

    settings, console = load_settings(), Console(highlight=False, soft_wrap=True)
    try:
        run_demo(settings, console)
    except KeyboardInterrupt:
        console.print(after_interrupt(settings))
        raise typer.Exit(_INTERRUPTED) from None


def stop() -> None:
    """End exactly what `demo` started, children too."""
    from collections import Counter

    from shoplens.local.processes import end_all, marked

    settings = load_settings()
    parts = Counter(part for _, part in marked(settings))
    count = end_all(settings)
    what = ", ".join(f"{part} {number}" for part, number in sorted(parts.items()))
    Console(highlight=False).print(f"ended {count} processes: {what}" if count else "nothing was running")


def status() -> None:
    """Show what is running, where, and what is in service."""
    from shoplens.local.ports import kept_ports
    from shoplens.local.processes import marked

    settings = load_settings()
    console = Console(highlight=False, soft_wrap=True)
    found = marked(settings)
    for process, part in found:
        console.print(f"{part:14} pid {process.pid}")
    ports = kept_ports(settings)
    if found and ports is not None:
        console.print(f"Airflow http://127.0.0.1:{ports.airflow}, service http://127.0.0.1:{ports.service}")
    if not found:
        console.print("nothing is running")
    current = settings.var_dir / "service/current"
    console.print(f"in service: {current.resolve().name if current.exists() else 'nothing'}")
