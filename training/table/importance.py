"""Permutation importance of the columns of a table: the drop in average precision when one is shuffled."""

import numpy as np
import polars as pl

from shoplens.stage import console
from training.evaluation.metrics import purchase_metrics
from training.explanation.permutation import Importance
from training.table.artifact import TableModel
from training.table.learner import Labels
from training.table.train import MAIN

_REPEATS = 10
_ROWS = 10_000  # test rows used; with more, the variation between shuffles dominates anyway


def importance(model: TableModel, test: pl.DataFrame, label: Labels, seed: int) -> list[Importance]:
    """Return the importance of each input column, the largest first.

    Args:
        model: The selected model.
        test: Held-out rows with typed columns.
        label: 0 or 1, (rows,).
        seed: Seed of the shuffles.
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
        found.append(Importance.of(column.name, base, [score(test.with_columns(values[order])) for order in orders]))
    console.print(f"importance of {len(found)} columns: {_REPEATS} shuffles of {len(test):,} test rows each")
    return sorted(found, key=lambda one: (-one.value, one.name))
