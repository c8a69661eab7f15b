"""The commands `shoplens explain`, `gate`, `release` and `supervise`; of all but the last, the last line is JSON."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from shoplens.params import load_params
from shoplens.settings import load_settings

REJECTED = 3  # exit status of `gate`: the package was evaluated and rejected; the old model stays in service


def explain(
    user: Annotated[str, typer.Option(help="The user, by user_id in the event log.")],
    item: Annotated[str | None, typer.Option(help="Explain the rank of this item; default: the purchase.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="Explain the answer of that time (UTC); default: the end of the data.")
    ] = None,
) -> None:
    """Explain an answer of the packaged models for one user, from the features in outs/."""
    from serving.explanations.past import explain_past

    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    moment = None if as_of is None else as_of.replace(tzinfo=as_of.tzinfo or UTC).astimezone(UTC)
    found = explain_past(user, item, moment, params, settings)
    for line in found["text"]:
        typer.echo(line)
    typer.echo(json.dumps(found, sort_keys=True, ensure_ascii=False))


def gate() -> None:
    """Evaluate outs/package against the model in service; exit 0 if accepted, 3 if rejected."""
    from serving.gate import evaluate_package
    from training.loop import prepare_device

    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    prepare_device(params.train.device)
    verdict = evaluate_package(params, settings)
    if not verdict.heads:
        typer.echo(f"model {verdict.version} is already in service")
    for line in verdict.lines():
        typer.echo(line)
    if not verdict.accepted:
        typer.echo(f"rejected: {verdict.current or 'nothing'} stays in service")
    typer.echo(json.dumps({"digest": verdict.version, **verdict.as_json()}, sort_keys=True))
    if not verdict.accepted:
        raise typer.Exit(REJECTED)


def release(
    wait_ready: Annotated[float, typer.Option(help="Seconds to wait for the service; 0: do not wait.")] = 0.0,
    url: Annotated[str | None, typer.Option(help="URL of the service; default SHOPLENS_SERVICE_URL.")] = None,
) -> None:
    """Build the Bento of the accepted package, release it, and wait until the service is ready.

    If the service does not become ready in time, the previous release is restored.
    """
    from features.store import places, read_state
    from serving.release import release_and_wait

    settings = load_settings()
    version, changed, seconds = release_and_wait(settings, url or settings.service_url, wait_ready)
    ready = f"; ready after {seconds:.1f} s" if wait_ready > 0 else ""
    typer.echo(f"model {version} {'released' if changed else 'unchanged'}{ready}")
    if read_state(places(settings)) is None:
        typer.echo("the online store is empty: all users get the fallback until `shoplens materialize` runs", err=True)
    typer.echo(json.dumps({"digest": version, "changed": changed}, sort_keys=True))


def supervise(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the service.", envvar="SERVICE_PORT")] = 3000,
    host: Annotated[str, typer.Option(help="Address that the service binds to.")] = "127.0.0.1",
) -> None:
    """Keep `bentoml serve` running on the released model until SIGTERM."""
    from serving.supervisor import Supervisor
    from shoplens.local.ports import require_free

    require_free("SERVICE_PORT", port, host)
    Supervisor(load_settings(), host, port).run()
