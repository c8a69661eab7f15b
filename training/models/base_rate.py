"""The base rate: the share of buyers among the training rows, predicted for every user. Any model must beat it."""

from pathlib import Path
from typing import Any

import numpy as np

from training.models.contract import FloatArray, Model
from training.rows.inputs import Inputs
from training.rows.rowset import RowSet


class BaseRate(Model):
    """Predicts the mean label of the training rows."""

    name = "base_rate"
    tasks = frozenset({"purchase"})
    reads_history = False

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Compute the mean label."""
        self.rate = float(np.mean(train.labels, dtype=np.float64))

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return the rate for every row."""
        return np.full(len(inputs), self.rate, dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Return the rate; no file is written."""
        return {"rate": self.rate}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Restore the rate."""
        self.rate = float(kept["rate"])

    def parameter_count(self) -> int:
        """Return 1: the rate."""
        return 1
