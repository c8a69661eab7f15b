"""The base rate: everybody buys with the probability of the training rows. What any model must beat."""

from pathlib import Path
from typing import Any

import numpy as np

from training.models.contract import FloatArray, Model
from training.rows.inputs import Inputs
from training.rows.rowset import RowSet


class BaseRate(Model):
    """One number."""

    name = "base_rate"
    tasks = frozenset({"purchase"})
    reads_history = False

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Take the mean label."""
        self.rate = float(np.mean(train.labels, dtype=np.float64))

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return the rate for every row."""
        return np.full(len(inputs), self.rate, dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Keep the rate."""
        return {"rate": self.rate}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Read the rate."""
        self.rate = float(kept["rate"])

    def parameter_count(self) -> int:
        """One."""
        return 1
