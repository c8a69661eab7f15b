"""Permutation importance of the columns of a table: how much the chosen model loses when one is shuffled."""

import numpy as np
import polars as pl
from scipy.stats import t

from shoplens.stage import console
from training.evaluation.metrics import purchase_metrics
from training.explanation.permutation import Importance
from training.table.artifact import TableModel
from training.table.models import Labels
from training.table.train import MAIN

_REPEATS = 10
_ROWS = 10_000  # of the test rows: more move the figures less than the shuffles do


def importance(model: TableModel, test: pl.DataFrame, label: Labels, seed: int) -> list[Importance]:
    """Return the fall of average precision for every input column, the largest first.

    The interval is Student's t over the shuffles: it says how much of the figure is their luck, on these rows.

    Args:
        model: The chosen one.
        test: Held-out rows, typed.
        label: Theirs, (rows,) 0 or 1.
        seed: Of the shuffles.
    """
    random = np.random.default_rng(seed)
    if len(test) > _ROWS:
        chosen = np.sort(random.choice(len(test), _ROWS, replace=False))
        test, label = test[chosen], label[chosen]
    orders = [random.permutation(len(test)) for _ in range(_REPEATS)]
    labels = label.astype(np.float32)

    def score(frame: pl.DataFrame) -> float:
        return purchase_metrics(labels, model.predict(frame))[MAIN]

    base, found = score(test), []
    for column in model.columns:
        values = test[column.name]
        falls = np.array([base - score(test.with_columns(values[order])) for order in orders])
        mean = float(falls.mean())
        spread = float(t.ppf(0.975, _REPEATS - 1) * falls.std(ddof=1) / np.sqrt(_REPEATS))
        found.append(Importance(column.name, mean, mean - spread, mean + spread))
    console.print(f"importance of {len(found)} columns: {_REPEATS} shuffles each of {len(test):,} test rows")
    return sorted(found, key=lambda one: (-one.value, one.name))
