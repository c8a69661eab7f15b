"""The analysis of a flat table: clean, split, select columns, train, evaluate, explain, and write the results."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shoplens.digest import file_digest, folder_digest
from shoplens.files import write_json
from shoplens.stage import console
from training.evaluation.bootstrap import Interval
from training.evaluation.metrics import purchase_metrics
from training.evaluation.plots import write_calibration, write_curves, write_importance
from training.explanation.permutation import permutation_importance
from training.table.artifact import TableModel
from training.table.clean import Cleaned, clean, groups_of, read_flat
from training.table.models import MODEL_NAMES
from training.table.select_columns import Selection, select_columns
from training.table.split import PARTS, Split, crossing, split
from training.table.train import MAIN, THRESHOLD, Trained, as_metrics, best, curve_scores, train_all

PART = "shoplens_part"
_REPEATS = 10
_ROWS = 10_000  # test rows whose columns are shuffled; with more, the variation between shuffles dominates anyway


@dataclass(frozen=True)
class Request:
    """The arguments of an analysis.

    Attributes:
        data: The file.
        target: The column to predict.
        time: The column that orders the rows; default: the first time column with few missing values.
        keep: Columns that are never dropped.
        keep_duplicates: Whether exact duplicates count as separate rows.
        seed: Seed of all random numbers.
        models: Members of MODEL_NAMES, including the base rate.
        group: The column that identifies people, or "none"; default: the one whose IDs repeat.
        dates: "day-first" or "month-first", for dates whose values do not prove it.
    """

    data: Path
    target: str
    time: str | None = None
    keep: frozenset[str] = field(default_factory=frozenset)
    keep_duplicates: bool = False
    seed: int = 42
    models: tuple[str, ...] = MODEL_NAMES
    group: str | None = None
    dates: str | None = None


def _importances(model: TableModel, cleaned: Cleaned, divided: Split, seed: int) -> dict[str, Interval]:
    """Return the drop in average precision on the test rows when a column is shuffled, the largest first."""
    test, label = cleaned.frame.filter(pl.Series(divided.where("test"))), cleaned.label[divided.where("test")]
    random = np.random.default_rng(seed)
    if len(test) > _ROWS:
        chosen = np.sort(random.choice(len(test), _ROWS, replace=False))
        test, label = test[chosen], label[chosen]
    labels = label.astype(np.float32)
    found = permutation_importance(
        test,
        [column.name for column in model.columns],
        lambda frame, name, order: frame.with_columns(frame[name][order]),
        lambda frame: purchase_metrics(labels, model.predict(frame))[MAIN],
        [random.permutation(len(test)) for _ in range(_REPEATS)],
    )
    return dict(sorted(found, key=lambda one: (-one[1].value, one[0])))


@dataclass(frozen=True)
class Analysis:
    """The results of an analysis."""

    request: Request
    cleaned: Cleaned
    split: Split
    selection: Selection
    trained: list[Trained]
    chosen: Trained
    importances: dict[str, Interval]


def analyse(request: Request) -> Analysis:
    """Run the analysis and print a line of progress per step.

    Raises:
        SourceError: the file cannot be read.
        SettingsError: a named column does not exist, or its type does not suit the option.
        BrokenTableError: the target does not have two values, or there are too few rows or columns.
    """
    frame, target = read_flat(request.data), request.target
    cleaned = clean(frame, target, request.time, request.keep_duplicates, group=request.group, dates=request.dates)
    console.print(f"{request.data.name}: {cleaned.account}")
    divided = split(cleaned, request.seed)
    console.print(f"split {divided.how}")
    selection = select_columns(cleaned, divided, request.keep, request.seed)
    columns = selection.columns
    console.print(f"{len(columns)} input columns, {divided.where('train').sum():,} training rows")
    trained = list(train_all(cleaned, columns, divided, target, request.seed, request.models))
    chosen = best(trained)
    console.print(f"selected on the validation rows: {chosen.model.name}")
    importances = _importances(chosen.model, cleaned, divided, request.seed)
    console.print(f"importance of {len(columns)} columns: {_REPEATS} shuffles of at most {_ROWS:,} test rows each")
    return Analysis(request, cleaned, divided, selection, trained, chosen, importances)


def _columns(found: Analysis) -> list[dict[str, Any]]:
    """Return a description of each column: its kind, its strength on its own, and whether it was dropped."""
    total = len(found.cleaned.frame)
    dropped = found.cleaned.dropped | found.selection.dropped
    lines: list[dict[str, Any]] = [
        {
            "column": column.name,
            "kind": column.kind,
            "missing": round(found.cleaned.frame[column.name].null_count() / total, 6),
            "unreadable_cells": column.unreadable,
            "roc_auc_alone": round(found.selection.strengths[column.name].roc_auc, 6),
            "dropped": dropped.get(column.name),
            "kept_although": found.selection.kept.get(column.name),
        }
        for column in found.cleaned.columns
    ]
    nested = [{"column": name, "kind": "nested", "dropped": why} for name, why in found.cleaned.dropped.items()]
    return sorted(lines, key=lambda one: -one["roc_auc_alone"]) + nested


def summary(found: Analysis, model: Path) -> dict[str, Any]:
    """Return the content of metrics.json, without timestamps or paths."""
    cleaned = found.cleaned
    same = groups_of(cleaned.frame.select(column.name for column in found.selection.columns))
    return {
        "data": {"file": found.request.data.name, "digest": file_digest(found.request.data)},
        "target": found.request.target,
        "seed": found.request.seed,
        "account": asdict(cleaned.account),
        "share_true": {
            "used": round(float(cleaned.label.mean()), 6),
            "with_duplicates": round(float(cleaned.double_label.mean()), 6),
        },
        "time": cleaned.time,
        "split": found.split.as_json() | {"same_inputs_crossing": crossing(found.split.part, same)},
        "columns": _columns(found),
        "models": as_metrics(found.trained, found.chosen),
        "chosen": {
            "model": found.chosen.model.name,
            "by": f"{MAIN} on the validation rows",
            "threshold": THRESHOLD,
            "digest": folder_digest(model),
        },
        "importance": {name: one.as_json() for name, one in found.importances.items()},
    }


def write_results(found: Analysis, folder: Path) -> dict[str, Any]:
    """Write the cleaned and quarantined rows, model/, plots/ and metrics.json; return the content of metrics.json."""
    for name in ("model", "plots"):
        (folder / name).mkdir()
    part = pl.Series(PART, [PARTS[index] for index in found.split.part])
    target = pl.Series(found.request.target, found.cleaned.label.astype(bool))
    found.cleaned.frame.with_columns(target, part).write_parquet(folder / "cleaned.parquet")
    found.cleaned.quarantine.write_parquet(folder / "quarantine.parquet")
    found.chosen.model.save(folder / "model")
    label = found.cleaned.label[found.split.where("test")].astype(np.float32)
    scores = curve_scores(found.trained, found.chosen)
    write_curves(label, scores, folder / "plots")
    write_calibration(label, scores, folder / "plots")
    write_importance(found.importances, "table", MAIN, folder / "plots")
    content = summary(found, folder / "model")
    write_json(folder / "metrics.json", content)
    return content
