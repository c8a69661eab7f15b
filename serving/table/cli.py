"""The command `shoplens table`, and the Bento of its model: a deterministic package whose digest is the version.

model/                    training.table.columns
table.json                the source data; the columns that the model does not use, with the reasons
requirements.txt          pinned to uv.lock
manifest.json             digest of every file
shoplens/ training/ serving/      exactly the code that the service imports
"""

import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shoplens.errors import SettingsError
from shoplens.files import manifest_version, whole_folder, write_json, write_manifest

NAME = "shoplens_table"
_MODELS = (
    "artifact", "baselines", "blend", "contract", "daily_network", "days", "hazard_network", "piecewise",
    "ranking", "scaler", "space", "threads", "tuned_trees", "waits",
)  # fmt: skip
_FEATURES = ("catalogue", "fast", "histories", "items", "promotions", "recent", "visits")
CODE = (
    *(f"shoplens/{name}.py" for name in ("__init__", "errors", "files", "models", "params")),
    *(f"events/{name}.py" for name in ("__init__", "contract")),
    *(f"features/{name}.py" for name in ("__init__", *_FEATURES)),
    *(f"training/{name}.py" for name in ("__init__", "calibration", "rows")),
    *(f"training/models/{name}.py" for name in ("__init__", *_MODELS)),
    *(f"training/table/{name}.py" for name in ("__init__", "columns")),
    "serving/__init__.py",
    *(f"serving/table/{name}.py" for name in ("__init__", "service")),
)
_NEEDS = (
    "bentoml", "fastapi", "filelock", "joblib", "numpy", "polars", "pydantic", "scikit-learn", "scipy", "skrub",
)  # fmt: skip
_INCLUDED = ["**/*.py", "**/*.json", "**/*.joblib", "**/*.npz", "**/*.parquet", "*.txt"]
_DESCRIPTION = """\
# ShopLens: a flat table

`POST /predict` takes one row as a JSON object with the columns that the model uses, and returns probability, decision
and model_version. `GET /version` returns the versions in service. An invalid request is answered with 400 and the name
of the field. Types and an example: `/openapi.json`.
"""


def _build_bento(content: dict[str, Any], lock: Path, work: Path) -> str:
    """Build the Bento of work/model as a file and a folder in `work`; return its version.

    `content` is that of metrics.json, `lock` is uv.lock.
    """
    import bentoml

    from serving.package import copy_code, pinned_requirements
    from serving.release import build_bento
    from serving.table.service import ABOUT

    # Not inside `work`, which is a hidden folder: BentoML ignores those.
    with tempfile.TemporaryDirectory(prefix="shoplens_table_") as name:
        package = Path(name)
        shutil.copytree(work / "model", package / "model")
        copy_code(CODE, package)
        dropped = {one["column"]: one["dropped"] for one in content["columns"] if one["dropped"]}
        dropped[content["target"]] = "it is the target"
        write_json(package / ABOUT, {"data": content["data"], "dropped": dropped})
        (package / "requirements.txt").write_text(pinned_requirements(lock, _NEEDS), encoding="utf-8")
        write_manifest(package, {})
        version = manifest_version(package)
        bento = build_bento(package, version, "serving.table.service:ShopLensTable", NAME, _INCLUDED, _DESCRIPTION)
    bentoml.export_bento(bento.tag, str(work / f"{NAME}-{version}.bento"))
    shutil.copytree(bento.path, work / "bento")
    (work / "bento").chmod(0o755)  # BentoML's store is readable by its owner only, but results are shared
    return version


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
        typer.Option("--keep-duplicates", help="Use exact duplicates as separate rows."),
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(help="The column that identifies people, or none; default the one whose IDs repeat."),
    ] = None,
    dates: Annotated[
        Literal["day-first", "month-first"] | None,
        typer.Option(help="How to read dates such as 1/2/2024, if no value proves it."),
    ] = None,
    false_alarm_cost: Annotated[
        float, typer.Option(min=1e-9, help="Cost of a false alarm, in true rows missed; it decides the threshold.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same arguments give the same metrics and the same model.")] = 42,
) -> None:
    """Train and evaluate every tabular model on a flat table; write a report and build the Bento of the best one."""
    from events.sources.files import table_name
    from shoplens.settings import load_settings
    from training.table.run import Request, analyse, write_pages, write_results

    settings = load_settings()
    name = table_name(data)
    folder = (settings.var_dir / "table" / name) if out is None else out.resolve()
    require_replaceable(folder)
    found = analyse(
        Request(
            data, target, time, frozenset(keep or ()), keep_duplicates, seed, group=group, dates=dates,
            false_alarm_cost=false_alarm_cost,
        )
    )  # fmt: skip
    with whole_folder(folder) as work:
        content = write_results(found, work)
        version = _build_bento(content, settings.root / "uv.lock", work)
        body = shlex.quote(json.dumps(found.model.example, ensure_ascii=False))
        serve = (
            f"bentoml serve {shlex.quote(str(folder / 'bento'))} --port 3000\n"
            f"curl -s -X POST http://127.0.0.1:3000/predict -H 'Content-Type: application/json' -d {body}"
        )
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
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not ((folder / "metrics.json").is_file() and (folder / "report.html").is_file()):
        raise SettingsError(
            f"--out: must be a new or empty folder or an earlier result; received {folder}, which contains other "
            f"files. Choose another folder"
        )
