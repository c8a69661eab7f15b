"""Trains every model on the same rows; the best on the validation rows is selected, all are evaluated on test rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer

from shoplens.stage import console
from training.evaluation.bootstrap import intervals, paired_difference, purchase_samples, user_weights
from training.evaluation.metrics import Array, purchase_metrics
from training.table.artifact import TableModel
from training.table.clean import Cleaned
from training.table.inputs import Column, Scores, preprocessing, to_inputs, typical_row
from training.table.models import make
from training.table.split import PARTS, Split

MAIN = "average_precision"
THRESHOLD = 0.5
RESAMPLES = 1_000


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

    The bootstrap resamples people where a column identifies them, else rows.
    """
    parts = parts_of(cleaned.frame, divided)
    labels = {name: cleaned.label[divided.where(name)] for name in PARTS}
    fitted = fit_preprocessing(cleaned.frame, columns, divided)
    matrix = {name: np.asarray(fitted.transform(to_inputs(rows, columns))) for name, rows in parts.items()}
    example = typical_row(parts["train"], columns)
    weight = user_weights(divided.people[divided.where("test")].astype(str), RESAMPLES, seed)
    for name in names:
        began = time.monotonic()
        learner = make(name, seed)
        learner.fit((matrix["train"], labels["train"]), (matrix["validation"], labels["validation"]))
        validation = purchase_metrics(labels["validation"].astype(np.float32), learner.predict(matrix["validation"]))
        score = learner.predict(matrix["test"])
        samples = purchase_samples(labels["test"].astype(np.float64), score, weight, THRESHOLD)
        model = TableModel(name, target, THRESHOLD, columns, fitted, learner, example)
        shown = intervals({MAIN: samples[MAIN]})[MAIN]
        console.print(f"{name:20} {MAIN} {shown} ({time.monotonic() - began:.1f} s)")
        yield Trained(model, validation[MAIN], score, samples)


def best(trained: list[Trained]) -> Trained:
    """Return the model with the highest average precision on the validation rows; ties go to the simplest."""
    return max(trained, key=lambda one: one.validation)


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


def curve_scores(trained: list[Trained], chosen: Trained) -> dict[str, NDArray[np.float32]]:
    """Return the scores to plot: the selected model first, as "model", then the others except the base rate."""
    others = {one.model.name: one.score for one in trained if one is not chosen and one.model.name != "base_rate"}
    return {"model": chosen.score, **others}
