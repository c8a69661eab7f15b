"""Commands for the online store: load it, collect events into it, and erase people."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer


def materialize() -> None:
    """Load outs/features into the online store; the last line is JSON with the digest and what changed."""
    from features.materialize import materialize as load
    from shoplens.settings import load_settings
    from shoplens.stage import console, stage

    settings = load_settings()
    with stage("materialize", settings):
        report = load(settings, console.print)
    typer.echo(json.dumps(dataclasses.asdict(report), sort_keys=True))


def collect(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of `POST /events`.", envvar="COLLECTOR_PORT")
    ] = 3001,
    host: Annotated[str, typer.Option(help="Address that it binds.")] = "127.0.0.1",
    lake: Annotated[Path | None, typer.Option(help="The lake that events go to; default lake/.")] = None,
    compact_seconds: Annotated[float, typer.Option(min=0.0, help="How long an event may wait for that.")] = 60.0,
    online: Annotated[bool, typer.Option(help="Push the last events of users to the online store, too.")] = True,
    mapping: Annotated[
        Path | None, typer.Option(help="Take the calls of another tracker under /v1, too, by this mapping file.")
    ] = None,
) -> None:
    """Collect events over HTTP, and from Kafka if SHOPLENS_KAFKA_SERVERS is set, until SIGTERM."""
    from features.live.collect import serve
    from shoplens.local.ports import require_free
    from shoplens.settings import load_settings

    require_free("COLLECTOR_PORT", port, host)
    settings = load_settings()
    where = lake or settings.lake_dir
    serve(settings, host, port, lake=where, compact_seconds=compact_seconds, online=online, mapping=mapping)


def erase(
    user_id: Annotated[str, typer.Argument(help="Whom; `-`: read it from standard input, which no history keeps.")],
    lake: Annotated[
        str | None, typer.Option(help="The lake, a folder or an fsspec URL; default lake/, if there is one.")
    ] = None,
) -> None:
    """Remove one person from the online store, the offline copies and the lake; print what was removed, as JSON."""
    import sys

    from features.erase import erase_user
    from shoplens.settings import load_settings
    from shoplens.stage import stage

    settings = load_settings()
    with stage("materialize", settings):  # nothing else loads the store at the same time
        report = erase_user(settings, sys.stdin.readline().rstrip("\n") if user_id == "-" else user_id, lake)
    typer.echo(json.dumps(dataclasses.asdict(report), indent=2, sort_keys=True))
    if not report.found:
        typer.echo(
            "USER_ID: nothing of this person is in the online stores, the offline copies, the lake or DVC's outs: they "
            "were erased before, or the ID is wrong. Check it; events in transit with this ID will be rejected",
            err=True,
        )
        raise typer.Exit(1)
