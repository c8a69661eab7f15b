"""The commands `shoplens gate`, `release` and `supervise`; what another program reads is the last line, in JSON."""

import json
from typing import Annotated

import typer

from shoplens.params import load_params
from shoplens.settings import load_settings

REFUSED = 3  # exit status of `gate`: the package was judged and refused; the old model stays


def gate() -> None:
    """Judge outs/package against the model in service; exit 0 when accepted, 3 when refused."""
    from serving.gate import evaluate_package
    from training.loop import prepare_device

    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    prepare_device(params.train.device)
    verdict = evaluate_package(params, settings)
    if not verdict.heads:
        typer.echo(f"model {verdict.version} is in service already")
    for head in verdict.heads:
        typer.echo(head.line())
    if not verdict.accepted:
        typer.echo(f"refused: {verdict.current or 'nothing'} stays in service")
    typer.echo(json.dumps({"digest": verdict.version, **verdict.as_json()}, sort_keys=True))
    if not verdict.accepted:
        raise typer.Exit(REFUSED)


def release(
    wait_ready: Annotated[float, typer.Option(help="Seconds to wait until the service reports it; 0: do not.")] = 0.0,
    url: Annotated[str | None, typer.Option(help="Address of the service; default SHOPLENS_SERVICE_URL.")] = None,
) -> None:
    """Build the Bento of the accepted package, put it into service, and wait until it answers.

    A package that does not become ready in time is taken out of service again.
    """
    from features.store import places, read_state
    from serving.release import put_into_service

    settings = load_settings()
    version, changed, seconds = put_into_service(settings, url or settings.service_url, wait_ready)
    ready = f"; ready after {seconds:.1f} s" if wait_ready > 0 else ""
    typer.echo(f"model {version} {'released' if changed else 'unchanged'}{ready}")
    if read_state(places(settings)) is None:
        typer.echo("the online store is empty: everybody gets the fallback until `shoplens materialize`", err=True)
    typer.echo(json.dumps({"digest": version, "changed": changed}, sort_keys=True))


def supervise(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the service.", envvar="SERVICE_PORT")] = 3000,
    host: Annotated[str, typer.Option(help="Address that the service binds.")] = "127.0.0.1",
) -> None:
    """Keep `bentoml serve` running on the released model; end with SIGTERM."""
    from serving.supervisor import Supervisor
    from shoplens.local.ports import require_free

    require_free("SERVICE_PORT", port, host)
    Supervisor(load_settings(), host, port).run()
