"""The command `shoplens table`."""

import json
import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def table(
    data: Annotated[
        Path, typer.Option(help="The table: CSV, CSV.gz, TSV, Parquet or JSON Lines; one row per session.")
    ],
    target: Annotated[str, typer.Option(help="The column to predict: true and false, 1 and 0, or yes and no.")],
    out: Annotated[
        Path | None, typer.Option(help="Output folder; default var/table/NAME. Replaces an earlier result.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="The column that orders the rows; default: the first nearly complete time column."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column never to drop, not even as a leak; repeatable.")
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
    """Train and evaluate every tabular model on a flat table; write a report and build the Bento of the best one."""
    from events.sources.files import table_name
    from shoplens.files import whole_folder
    from shoplens.settings import load_settings
    from training.table.report import write_pages
    from training.table.run import Request, analyse, write_results

    settings = load_settings()
    name = table_name(data)
    folder = (settings.var_dir / "table" / name) if out is None else out.resolve()
    require_replaceable(folder)
    found = analyse(Request(data, target, time, frozenset(keep or ()), keep_duplicates, seed, group=group, dates=dates))
    with whole_folder(folder) as work:
        content = write_results(found, work)
        version = _build_bento(content, settings.root / "uv.lock", work)
        serve = serve_lines(folder, found.chosen.model.example)
        write_pages(name, content, work, serve)
    _print_summary(str(found.cleaned.account), content, version)
    typer.echo(f"report: {folder / 'report.html'}")
    typer.echo(f"serve it with:\n{serve}")


def _print_summary(account: str, content: dict[str, Any], version: str) -> None:
    """Print the account of the rows, the dropped columns and the metric of the selected model."""
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


def require_replaceable(folder: Path) -> None:
    """Raise a SettingsError if the folder contains anything other than an earlier result."""
    from shoplens.errors import SettingsError

    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not ((folder / "metrics.json").is_file() and (folder / "report.html").is_file()):
        raise SettingsError(
            f"--out: must be a new or empty folder or an earlier result; received {folder}, which contains other "
            f"files. Choose another folder"
        )


def _build_bento(content: dict[str, Any], lock: Path, work: Path) -> str:
    """Build the Bento of work/model in `work` and return its version."""
    from serving.table.bento import build_package, write_bento

    # Not inside `work`, which is a hidden folder: BentoML ignores those.
    with tempfile.TemporaryDirectory(prefix="shoplens_table_") as name:
        package = Path(name)
        version = build_package(work / "model", content, lock, package)
        write_bento(package, version, work)
    return version


def serve_lines(folder: Path, example: dict[str, Any]) -> str:
    """Return the shell commands that serve the Bento and query it."""
    body = shlex.quote(json.dumps(example, ensure_ascii=False))
    return (
        f"bentoml serve {shlex.quote(str(folder / 'bento'))} --port 3000\n"
        f"curl -s -X POST http://127.0.0.1:3000/predict -H 'Content-Type: application/json' -d {body}"
    )
