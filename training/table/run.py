"""The analysis of a flat table: clean, split, select columns, train, evaluate, explain, and write the results."""

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup, escape
from sklearn.compose import ColumnTransformer

from shoplens.files import file_digest, folder_digest, write_json
from shoplens.stage import console
from shoplens.templates import load_template
from training.calibration import check_calibration
from training.explain import permutation_importance
from training.metrics import purchase_metrics, purchase_samples
from training.plots import write_calibration, write_curves, write_importance
from training.resamples import Array, Interval, Resamples, interval, intervals, paired_difference
from training.table.clean import Cleaned, clean, groups_of, read_flat
from training.table.model import (
    MODEL_NAMES,
    Column,
    Scores,
    TableModel,
    fit_classifier,
    preprocessing,
    to_inputs,
    typical_row,
)
from training.table.select_columns import Selection, select_columns
from training.table.split import PARTS, Split, crossing, split

MAIN = "average_precision"
THRESHOLD = 0.5
RESAMPLES = 1_000
_SHOWN = 20  # columns of the table of importances
PART = "shoplens_part"
_REPEATS = 10
_ROWS = 10_000  # test rows whose columns are shuffled; with more, the variation between shuffles dominates anyway


@dataclass(frozen=True)
class Trained:
    """A trained model with its predictions and metrics on held-out rows.

    Attributes:
        validation: Average precision on the validation rows, by which the model is selected.
        score: Probabilities of the test rows, (rows,).
        samples: Metric -> values on the test rows and on each resample, (RESAMPLES + 1,).
    """

    model: TableModel
    validation: float
    score: Scores
    samples: dict[str, Array]


def parts_of(frame: pl.DataFrame, divided: Split) -> dict[str, pl.DataFrame]:
    """Return the rows of each part."""
    return {name: frame.filter(pl.Series(divided.where(name))) for name in PARTS}


def fit_preprocessing(frame: pl.DataFrame, columns: tuple[Column, ...], divided: Split) -> ColumnTransformer:
    """Return the preprocessing, fitted on the training rows only."""
    return preprocessing(columns).fit(to_inputs(parts_of(frame, divided)["train"], columns))


def train_all(
    cleaned: Cleaned, columns: tuple[Column, ...], divided: Split, target: str, seed: int, names: tuple[str, ...]
) -> Iterator[Trained]:
    """Train each model on the training rows and evaluate it on the test rows, in the order of `names`.

    The bootstrap resamples people if a column identifies them, else rows.
    """
    parts = parts_of(cleaned.frame, divided)
    labels = {name: cleaned.label[divided.where(name)] for name in PARTS}
    fitted = fit_preprocessing(cleaned.frame, columns, divided)
    model = TableModel("", target, THRESHOLD, columns, fitted, None, typical_row(parts["train"], columns))
    matrix = {name: model.matrix(rows) for name, rows in parts.items()}
    resamples = Resamples(divided.people[divided.where("test")].astype(str), RESAMPLES, seed)
    for name in names:
        began = time.monotonic()
        train, validation = ((matrix[part], labels[part]) for part in ("train", "validation"))
        model = replace(model, name=name, estimator=fit_classifier(name, train, validation, seed))
        reached = purchase_metrics(labels["validation"].astype(np.float32), model.score(matrix["validation"]))[MAIN]
        score = model.score(matrix["test"])
        samples = purchase_samples(labels["test"].astype(np.float64), score, resamples, THRESHOLD)
        console.print(f"{name:20} {MAIN} {interval(samples[MAIN])} ({time.monotonic() - began:.1f} s)")
        yield Trained(model, reached, score, samples)


def as_metrics(trained: list[Trained], chosen: Trained) -> dict[str, Any]:
    """Return model -> test metrics with intervals, validation metric, and the selected model minus this model."""
    return {
        one.model.name: {
            "test": {metric: interval.as_json() for metric, interval in intervals(one.samples).items()},
            "validation": {MAIN: round(one.validation, 6)},
            "chosen_minus_this": {MAIN: paired_difference(chosen.samples[MAIN], one.samples[MAIN]).as_json()},
        }
        for one in trained
    }


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
        dates: "day-first" or "month-first", for ambiguous dates.
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
    chosen = max(trained, key=lambda one: one.validation)  # ties go to the simplest
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
            "roc_auc_alone": round(found.selection.strengths[column.name], 6),
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
    others = [one for one in found.trained if one is not found.chosen and one.model.name != "base_rate"]
    scores = {"model": found.chosen.score, **{one.model.name: one.score for one in others}}
    write_curves(label, scores, folder / "plots")
    calibration = {name: check_calibration(label, score, found.request.seed) for name, score in scores.items()}
    write_calibration(calibration, folder / "plots")
    write_importance(found.importances, "table", MAIN, folder / "plots")
    content = summary(found, folder / "model")
    write_json(folder / "metrics.json", content)
    return content


def _cell(text: str) -> str:
    """Escape a cell of a Markdown table, which a bar or a line break would end."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _interval(found: dict[str, float]) -> str:
    # Adding 0.0 turns a negative zero, which rounding can produce, into zero.
    value, low, high = (round(found[name], 3) + 0.0 for name in ("value", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _mark(text: str, pattern: str, tag: str) -> Markup:
    """Escape text and wrap the first group of each match in a tag."""
    return Markup(re.sub(pattern, rf"<{tag}>\1</{tag}>", str(escape(text))))  # noqa: S704  (escaped just above)


def write_pages(name: str, content: dict[str, Any], folder: Path, serve: str | None) -> None:
    """Write report.md and report.html into a folder that has plots/.

    Args:
        name: Name of the table.
        content: Content of metrics.json.
        folder: The folder.
        serve: Shell commands that start the service and query it; None if there is no Bento.
    """
    importance = sorted(content["importance"].items(), key=lambda one: (-one[1]["value"], one[0]))[:_SHOWN]
    functions = {
        "cell": _cell,
        "count": "{:,}".format,
        "interval": _interval,
        "mark": _mark,
        "base64": lambda file: base64.b64encode((folder / file).read_bytes()).decode(),
    }
    for page in ("report.md", "report.html"):
        template = load_template(Path(__file__).with_name(page), escape=page.endswith(".html"), functions=functions)
        text = template.render(name=name, content=content, importance=importance, serve=serve)
        (folder / page).write_text(text.strip() + "\n", encoding="utf-8")
