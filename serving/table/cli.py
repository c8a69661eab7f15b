"""The command `shoplens table`."""

import json
import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def table(
    data: Annotated[Path, typer.Option(help="The table: CSV, CSV.gz, TSV, Parquet or JSON Lines, one row a session.")],
    target: Annotated[str, typer.Option(help="The column to predict: true and false, 1 and 0, or yes and no.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to; default var/table/NAME. An earlier result there is replaced.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="The column that orders the rows; default the first time that nearly all have.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column to learn from whatever is found against it; repeatable.")
    ] = None,
    keep_duplicates: Annotated[
        bool,
        typer.Option("--keep-duplicates", help="Use exact duplicates as rows of their own."),
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(help="The column that identifies people, or none; default the one whose IDs repeat."),
    ] = None,
    dates: Annotated[
        Literal["day-first", "month-first"] | None,
        typer.Option(help="How to read dates such as 1/2/2024, if no value proves it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same arguments give the same metrics and the same model.")] = 42,
) -> None:
    """Clean a flat table, split it, drop what leaks, train and judge every tabular model, explain, build the Bento."""
    from events.sources.files import table_name
    from shoplens.files import whole_folder
    from shoplens.settings import load_settings
    from training.table.pages import write_pages
    from training.table.run import Request, analyse, write_results

    settings = load_settings()
    name = table_name(data)
    place = (settings.var_dir / "table" / name) if out is None else out.resolve()
    require_ours(place)
    found = analyse(Request(data, target, time, frozenset(keep or ()), keep_duplicates, seed, group=group, dates=dates))
    with whole_folder(place) as work:
        content = write_results(found, work)
        version = _leave_bento(content, settings.root / "uv.lock", work)
        serve = serve_lines(place, found.chosen.model.example)
        write_pages(name, content, work, serve)
    _say(str(found.cleaned.account), content, version)
    typer.echo(f"report: {place / 'report.html'}")
    typer.echo(f"serve it with:\n{serve}")


def _say(account: str, content: dict[str, Any], version: str) -> None:
    """Print what became of rows and columns, and how good the chosen model is."""
    typer.echo(account)
    for column in content["columns"]:
        if column["dropped"]:
            typer.echo(f"dropped {column['column']}: {column['dropped']}")
    chosen = content["chosen"]
    test = content["models"][chosen["model"]]["test"]["average_precision"]
    typer.echo(
        f"{chosen['model']}: average precision {test['value']:.4f} [{test['low']:.4f}, {test['high']:.4f}] on the test "
        f"rows; model {chosen['digest'][:16]}, Bento {version}"
    )


def require_ours(place: Path) -> None:
    """Raise a SettingsError where the result would replace something else than an earlier result."""
    from shoplens.errors import SettingsError

    taken = place.is_file() or (place.is_dir() and any(place.iterdir()))
    if taken and not ((place / "metrics.json").is_file() and (place / "report.html").is_file()):
        raise SettingsError(
            f"--out: must be a new or an empty folder, or an earlier result; received {place}, which holds other "
            f"files. Name another"
        )


def _leave_bento(content: dict[str, Any], lock: Path, work: Path) -> str:
    """Build the Bento of work/model, leave it in `work`, and return its version."""
    from serving.table.bento import build_bento, build_package

    with tempfile.TemporaryDirectory(
        prefix="shoplens_table_"
    ) as folder:  # not in `work`: BentoML reads no hidden folder
        package = Path(folder)
        version = build_package(work / "model", content, lock, package)
        build_bento(package, version, work)
    return version


def serve_lines(place: Path, example: dict[str, Any]) -> str:
    """Return the shell lines that serve the Bento and ask it."""
    body = shlex.quote(json.dumps(example, ensure_ascii=False))
    return (
        f"bentoml serve {shlex.quote(str(place / 'bento'))} --port 3000\n"
        f"curl -s -X POST http://127.0.0.1:3000/predict -H 'Content-Type: application/json' -d {body}"
    )
