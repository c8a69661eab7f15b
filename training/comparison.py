"""The comparison table: every model of both tasks, trained on the same rows with the same loop, with intervals."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from events.sources.files import find_files
from features.catalogue import Catalogue
from shoplens.errors import NothingToLearnError
from shoplens.files import file_digest, read_json, whole_file, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.datasets import build_rows, require_features
from training.evaluate import MAIN_METRIC, evaluate_model
from training.fit import recipe_of, train_model
from training.loop import prepare_device
from training.metrics import PURCHASE_METRICS, RANKING_METRICS
from training.models.contract import Model, model_names
from training.resamples import Resamples, paired_difference
from training.rows import TASKS, RowSet, Task

_METRICS = {"purchase": PURCHASE_METRICS, "next_item": RANKING_METRICS}


def _code_digests(root: Path, *folders: str) -> list[str]:
    return [file_digest(path) for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def data_and_code(outs: Path) -> str:
    """Return a digest of the data and the code that a trained model depends on."""
    root = Path(__file__).resolve().parents[1]
    parts = [
        *(
            file_digest(outs / f"features/{name}")
            for name in ("features.json", "catalogue.parquet", "promotions.parquet")
        ),
        read_json(outs / "validated/dataset.json")["digest"],
        *_code_digests(root, "features", "training"),
        file_digest(root / "events/contract.py"),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fingerprint(task: Task, name: str, params: Params, outs: Path) -> str:
    """Return a digest of the data, parameters and code that a result depends on."""
    rows, evaluate = params.train.rows.model_dump_json(), params.evaluate.model_dump_json()
    parts = [name, repr(recipe_of(task, params)), rows, evaluate, data_and_code(outs)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _results(
    task: Task, names: Sequence[str], params: Params, outs: Path, kept: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (model, result); a result is reused if its data, parameters and code are unchanged."""
    rows = None
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    for name in names:
        path = kept / f"{task}-{name}.json"
        fingerprint = _fingerprint(task, name, params, outs)
        if path.exists() and read_json(path)["fingerprint"] == fingerprint:
            yield name, read_json(path)
            continue
        if rows is None:
            rows = build_rows(task, params, outs)
        console.print(f"{task}: training {name}")
        began = time.monotonic()
        model = train_model(name, recipe_of(task, params), rows, catalogue)
        seconds = time.monotonic() - began
        result = {
            "fingerprint": fingerprint,
            **_figures(model, rows.test, params),
            "seconds": round(seconds, 1),
            "parameters": model.parameter_count(),
            "rows": [len(rows.train), len(rows.validation), len(rows.test)],
        }
        if rows.served is not None:
            result["as_served"] = _figures(model, rows.served, params) | {"rows": len(rows.served)}
        write_json(path, result)
        yield name, result


def _figures(model: Model, rows: RowSet, params: Params) -> dict[str, Any]:
    """Return the metrics of a model on rows, and its main metric on the resamples."""
    found = evaluate_model(model, rows, Resamples(rows.user_id, params.evaluate.resamples, params.seed))
    return {
        "metrics": {metric: interval.as_json() for metric, interval in found.intervals().items()},
        "samples": [round(one, 6) for one in found.samples[MAIN_METRIC[rows.task]].tolist()],
    }


def _section(task: Task, main: str, results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of a task: the metrics of each model, and how far the model `main` is above it."""
    train, validation, test = next(iter(results.values()))["rows"]
    more = {name: (f"{one['parameters']:,}", f"{one['seconds']:.1f}") for name, one in results.items()}
    lines = [
        f"## {task}",
        "",
        f"{train:,} training rows, {validation:,} validation rows, {test:,} test rows; 95% intervals over users.",
        "",
        *_table(task, main, results, more),
    ]
    served = {name: one["as_served"] for name, one in results.items() if "as_served" in one}
    if served:
        count = next(iter(served.values()))["rows"]
        lines += [
            f"The same models as a service is asked: {count:,} rows of all known users, at any time of the test weeks.",
            "",
            *_table(task, main, served, {}),
        ]
    return lines


def _table(task: Task, main: str, results: dict[str, dict[str, Any]], more: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the lines of a table: metrics, the difference to `main`, and, where given, parameters and seconds."""
    metrics, reference = _METRICS[task], MAIN_METRIC[task]
    heads = ["model", *metrics, f"{main} minus it, {reference}", *(["parameters", "seconds"] if more else [])]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, result in results.items():
        found = [result["metrics"].get(metric) for metric in metrics]
        cells = ["" if one is None else f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]" for one in found]
        gap = ""
        if main in results and name != main:
            both = (np.array(results[one]["samples"]) for one in (main, name))
            paired = paired_difference(*both)
            gap = f"{paired.value:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}]"
        lines.append(f"| {' | '.join([name, *cells, gap, *more.get(name, ())])} |")
    return [*lines, ""]


def compare(params: Params, settings: Settings, target: Path, names: Sequence[str] = ()) -> Path:
    """Train and evaluate models on `outs/`; write comparison.md and comparison.json to `target`.

    An interrupted run resumes with the next model.

    Args:
        params: The parameters.
        settings: Where `outs/` is.
        target: The folder of the results.
        names: The models to compare; all where there are none.
    """
    require_features(settings.outs_dir)
    prepare_device(params.train.device)
    dataset = read_json(settings.outs_dir / "validated/dataset.json")
    title = f"# Comparison on {Path(dataset['mapping']).stem}: {dataset['rows']:,} events"
    lines = [title, "", f"{dataset['start'][:10]} to {dataset['high_water'][:10]}, seed {params.seed}.", ""]
    content: dict[str, Any] = {"dataset": dataset}
    for task in TASKS:
        chosen = [name for name in model_names(task) if not names or name in names]
        if not chosen:
            continue
        main = params.train.purchase.model if task == "purchase" else params.train.next_item.model
        try:
            results = dict(_results(task, chosen, params, settings.outs_dir, target / "results"))
        except NothingToLearnError as error:
            lines += [f"## {task}", "", f"No model: {error}", ""]
            content[task] = {"missing": str(error)}
            continue
        lines += _section(task, main, results)
        content[task] = results
    write_json(target / "comparison.json", content)
    with whole_file(target / "comparison.md") as work:
        work.write_text("\n".join(lines), encoding="utf-8")
    return target / "comparison.md"


def prepare_source(
    params: Params, settings: Settings, mapping: str, source: str, target: Path
) -> tuple[Params, Settings]:
    """Run the stages fetch to features on another source, in `target`; return its parameters and settings."""
    from events.stages import fetch, ingest
    from expectations.stages import validate
    from features.stages import features

    data = params.data.model_copy(update={"mapping": mapping, "source": source, "user_share": 1.0, "as_of": None})
    other = params.model_copy(update={"data": data})
    place = settings.model_copy(update={"outs": target / "outs", "var": target / "var"})
    prepared = target / "prepared.json"
    state = _source_state(other, settings.root, source)
    if not prepared.exists() or read_json(prepared) != state:
        for stage in (fetch, ingest, validate, features):
            console.print(f"{stage.__name__}: {source}")
            stage(other, place)
        write_json(prepared, state)
    return other, place


def _source_state(params: Params, root: Path, source: str) -> dict[str, Any]:
    """Return what the tables of a source depend on: the state of its files, its mapping, parameters and code."""
    files = [path for path in find_files([root / source]) if path.is_file()]
    return {
        "files": {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files},
        "mapping": file_digest(root / params.data.mapping),
        "parameters": [params.expectations.model_dump(), params.features.model_dump()],
        "code": _code_digests(root, "events", "expectations", "features"),
    }
