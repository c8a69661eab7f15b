"""The analysis of a flat table: clean, split, select columns, train, evaluate, explain, and write the results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shoplens.digest import file_digest, folder_digest
from shoplens.files import write_json
from shoplens.stage import console
from training.evaluation.plots import write_calibration, write_curves
from training.explanation.permutation import Importance
from training.explanation.plots import write_importance
from training.table.clean import Cleaned, clean, groups_of, read_flat
from training.table.importance import importance
from training.table.models import MODEL_NAMES
from training.table.select_columns import Selection, select_columns
from training.table.split import PARTS, Split, crossing, split
from training.table.train import MAIN, THRESHOLD, Trained, as_metrics, best, curve_scores, parts_of, train_all

PART = "shoplens_part"


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


@dataclass(frozen=True)
class Analysis:
    """The results of an analysis."""

    request: Request
    cleaned: Cleaned
    split: Split
    selection: Selection
    trained: list[Trained]
    chosen: Trained
    importances: list[Importance]


def analyse(request: Request) -> Analysis:
    """Run the analysis and print a line of progress per step.

    Raises:
        SourceError: the file cannot be read.
        SettingsError: a named column does not exist, or its type does not suit the option.
        BrokenTableError: the target does not have two values, or there are too few rows or columns.
    """
    cleaned = clean(
        read_flat(request.data),
        request.target,
        request.time,
        request.keep_duplicates,
        group=request.group,
        dates=request.dates,
    )
    console.print(f"{request.data.name}: {cleaned.account}")
    time = None if cleaned.time is None else cleaned.frame[cleaned.time]
    person = None if cleaned.person is None else cleaned.frame[cleaned.person]
    doubles = (cleaned.doubles, cleaned.double_label)
    divided = split(cleaned.label, cleaned.copy_of, time, doubles, request.seed, person)
    console.print(f"split {divided.how}")
    parts, train = parts_of(cleaned.frame, divided), divided.where("train")
    people = None if cleaned.person is None else (cleaned.person, divided.people[train])
    selection = select_columns(
        cleaned.columns, parts["train"], cleaned.label[train], request.keep, request.seed, people
    )
    names = [column.name for column in selection.columns]
    console.print(f"{len(names)} input columns, {train.sum():,} training rows")
    rows = cleaned.frame.select(names)
    trained = list(
        train_all(rows, cleaned.label, selection.columns, divided, request.target, request.seed, request.models)
    )
    chosen = best(trained)
    console.print(f"selected on the validation rows: {chosen.model.name}")
    label = cleaned.label[divided.where("test")]
    found = importance(chosen.model, parts["test"].select(names), label, request.seed)
    return Analysis(request, cleaned, divided, selection, trained, chosen, found)


def _columns(found: Analysis) -> list[dict[str, Any]]:
    """Return a description of each column: its kind, its strength on its own, and whether it was dropped."""
    total = len(found.cleaned.frame)
    dropped = found.cleaned.dropped | found.selection.dropped
    lines: list[dict[str, Any]] = []
    for column in found.cleaned.columns:
        missing = found.cleaned.frame[column.name].null_count()
        lines.append(
            {
                "column": column.name,
                "kind": column.kind,
                "missing": round(missing / total, 6),
                "unreadable_cells": column.unreadable,
                "roc_auc_alone": round(found.selection.strengths[column.name].roc_auc, 6),
                "dropped": dropped.get(column.name),
                "kept_although": found.selection.kept.get(column.name),
            }
        )
    nested = [{"column": name, "kind": "nested", "dropped": why} for name, why in found.cleaned.dropped.items()]
    return sorted(lines, key=lambda one: -one["roc_auc_alone"]) + nested


def summary(found: Analysis, model: Path) -> dict[str, Any]:
    """Return the content of metrics.json, without timestamps or paths."""
    cleaned, account = found.cleaned, found.cleaned.account
    same = groups_of(cleaned.frame.select(column.name for column in found.selection.columns))
    return {
        "data": {"file": found.request.data.name, "digest": file_digest(found.request.data)},
        "target": found.request.target,
        "seed": found.request.seed,
        "account": {
            "rows": account.rows,
            "used": account.used,
            "quarantined": account.quarantined,
            "exact_duplicates": account.duplicates,
        },
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
        "importance": {one.name: one.as_json() for one in found.importances},
    }


def _plots(found: Analysis, folder: Path) -> None:
    label = found.cleaned.label[found.split.where("test")].astype(np.float32)
    scores = curve_scores(found.trained, found.chosen)
    write_curves(label, scores, folder)
    write_calibration(label, scores, folder)
    write_importance(found.importances, "table", MAIN, folder)


def write_results(found: Analysis, folder: Path) -> dict[str, Any]:
    """Write the cleaned and quarantined rows, model/, plots/ and metrics.json; return the content of metrics.json."""
    for name in ("model", "plots"):
        (folder / name).mkdir()
    part = pl.Series(PART, [PARTS[index] for index in found.split.part])
    target = pl.Series(found.request.target, found.cleaned.label.astype(bool))
    found.cleaned.frame.with_columns(target, part).write_parquet(folder / "cleaned.parquet")
    found.cleaned.quarantine.write_parquet(folder / "quarantine.parquet")
    found.chosen.model.save(folder / "model")
    _plots(found, folder / "plots")
    content = summary(found, folder / "model")
    write_json(folder / "metrics.json", content)
    return content
