"""The analysis of a flat table: clean, split, select columns, train, evaluate, explain, and write the results."""

import base64
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup, escape

from shoplens.files import file_digest, folder_digest, write_json
from shoplens.params import SequenceLoopParams, SequenceNetworkParams
from shoplens.stage import console
from shoplens.templates import load_template
from training.calibration import check_calibration
from training.datasets import Rows
from training.evaluate import MAIN_METRIC, Evaluation, evaluate_model
from training.explain import permutation_importance
from training.fit import train_model
from training.loop import prepare_device
from training.metrics import purchase_metrics
from training.models.contract import Model, Recipe
from training.plots import write_calibration, write_curves, write_importance
from training.resamples import Interval, Resamples, interval, paired_difference
from training.table.clean import Cleaned, clean, groups_of, read_flat
from training.table.columns import NO_ITEMS, NO_TIME, Encoder, Scores, TableModel, typical_row
from training.table.select_columns import Selection, select_columns
from training.table.split import PARTS, Split, crossing, split

MAIN = MAIN_METRIC["purchase"]
MODEL_NAMES = ("base_rate", "logistic_regression", "decision_tree", "tuned_trees", "neural_network", "hazard_blend")
_BLEND = ("tuned_trees", "neural_network")
RESAMPLES = 1_000
_SHOWN = 20  # columns in the table of importances
PART = "shoplens_part"
_REPEATS = 10
_ROWS = 10_000  # test rows whose columns are shuffled; with more, the variation between shuffles dominates anyway
_PASSES, _FEWEST, _SHOWN_ROWS = 16, 4, 400_000  # epochs for a small table, for a large one, and rows over all epochs


@dataclass(frozen=True)
class Trained:
    """A trained model with its predictions and metrics on held-out rows.

    Attributes:
        validation: Average precision on the validation rows, by which the model is selected.
        test: Predictions and metrics on the test rows.
    """

    model: Model
    validation: float
    test: Evaluation

    @property
    def score(self) -> Scores:
        """Probabilities of the test rows, (rows,)."""
        return np.asarray(self.test.score)


def table_recipe(rows: int, seed: int, false_alarm_cost: float) -> Recipe:
    """Return the parameters of the models of a table with `rows` training rows."""
    size = SequenceNetworkParams(length=1, heads=1, width=64, blocks=2, dropout=0.3)
    loop = SequenceLoopParams(
        epochs=min(_PASSES, max(_FEWEST, _SHOWN_ROWS // max(rows, 1))),
        patience=1,
        batch_size=min(512, max(32, rows // 16)),
        learning_rate=0.003,
        optimizer="adamw",
        max_train_rows=200_000,
    )
    return Recipe("purchase", size, loop, seed, members=4, blend=_BLEND, false_alarm_cost=false_alarm_cost)


def prepare(names: Sequence[str]) -> None:
    """Make training reproducible if any of the models is a network."""
    if {"neural_network", "hazard_blend"} & set(names):
        prepare_device("cpu")


def train_all(names: Sequence[str], recipe: Recipe, rows: Rows) -> Iterator[Trained]:
    """Train each model on the training rows and evaluate it on the test rows, in the order of `names`."""
    prepare(names)
    resamples = Resamples(rows.test.user_id, RESAMPLES, recipe.seed)
    for name in names:
        began = time.monotonic()
        model = train_model(name, recipe, rows, NO_ITEMS)
        reached = purchase_metrics(rows.validation.labels, model.predict(rows.validation.inputs))[MAIN]
        found = Trained(model, reached, evaluate_model(model, rows.test, resamples))
        console.print(f"{name:20} {MAIN} {interval(found.test.samples[MAIN])} ({time.monotonic() - began:.1f} s)")
        yield found


def as_metrics(trained: list[Trained], chosen: Trained) -> dict[str, Any]:
    """Return model -> test metrics with intervals, validation metric, and the selected model minus this model."""
    return {
        one.model.name: {
            "test": {metric: interval.as_json() for metric, interval in one.test.intervals().items()},
            "validation": {MAIN: round(one.validation, 6)},
            "chosen_minus_this": {MAIN: paired_difference(chosen.test.samples[MAIN], one.test.samples[MAIN]).as_json()},
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
        models: Names of models, from simple to complex.
        group: The column that identifies people, or "none"; default: an ID column whose values repeat.
        dates: "day-first" or "month-first", for ambiguous dates.
        false_alarm_cost: Cost of a false alarm, in units of the cost of a missed true row; it decides the threshold.
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
    false_alarm_cost: float = 1.0


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
    model: TableModel
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
    part, group = {name: divided.where(name) for name in PARTS}, divided.people
    train = cleaned.frame.filter(pl.Series(part["train"]))
    encoder = Encoder.fit(train, columns, request.seed)
    rows = {
        name: encoder.rows(cleaned.frame.filter(pl.Series(one)), cleaned.label[one], group[one])
        for name, one in part.items()
    }
    recipe = table_recipe(len(train), request.seed, request.false_alarm_cost)
    parts = Rows(rows["train"], rows["validation"], rows["test"], NO_TIME)
    trained = list(train_all(request.models, recipe, parts))
    chosen = max(trained, key=lambda one: one.validation)  # ties go to the simplest
    console.print(f"selected on the validation rows: {chosen.model.name}")
    model = TableModel(target, encoder, chosen.model, typical_row(train, columns))
    importances = _importances(model, cleaned, divided, request.seed)
    console.print(f"importance of {len(columns)} columns: {_REPEATS} shuffles of at most {_ROWS:,} test rows each")
    return Analysis(request, cleaned, divided, selection, trained, chosen, model, importances)


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
            "threshold": round(found.chosen.model.threshold, 6),
            "false_alarm_cost": found.request.false_alarm_cost,
            "digest": folder_digest(model),
        },
        "importance": {name: one.as_json() for name, one in found.importances.items()},
    }


def write_results(found: Analysis, folder: Path) -> dict[str, Any]:
    """Write the cleaned and quarantined rows, model/, plots/ and metrics.json; return the content of metrics.json."""
    (folder / "plots").mkdir()
    part = pl.Series(PART, [PARTS[index] for index in found.split.part])
    target = pl.Series(found.request.target, found.cleaned.label.astype(bool))
    found.cleaned.frame.with_columns(target, part).write_parquet(folder / "cleaned.parquet")
    found.cleaned.quarantine.write_parquet(folder / "quarantine.parquet")
    found.model.save(folder / "model")
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
    """Escape a cell of a Markdown table: a bar or a line break would end it."""
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
