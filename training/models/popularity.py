"""Popularity: rank items by how often they were the next item in the latest training weeks, for every user."""

from pathlib import Path
from typing import Any

import numpy as np

from training.models.contract import FloatArray, Model
from training.rows.inputs import Inputs
from training.rows.rowset import RowSet

_WINDOW = np.timedelta64(28, "D")  # recent enough to follow the season, long enough for stable counts


def popular_counts(train: RowSet, size: int) -> FloatArray:
    """Return how often each catalogue index was a target in the last four weeks of training, (size,)."""
    newest = train.inputs.now >= train.inputs.now.max() - _WINDOW
    targets = [train.target_sets[k] for k in np.flatnonzero(newest)]
    counts = np.bincount(np.concatenate(targets), minlength=size).astype(np.float32)
    counts[:2] = 0
    return counts


class Popularity(Model):
    """Scores each item by its count among the targets."""

    name = "popularity"
    tasks = frozenset({"next_item"})
    reads_history = False

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Count the targets."""
        self.counts = popular_counts(train, self.catalogue.size)

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return the same scores for every row."""
        scores = self.counts.copy()
        scores[:2] = -np.inf
        return np.broadcast_to(scores, (len(inputs), len(scores))).copy()

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the counts."""
        np.save(folder / "counts.npy", self.counts)
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the counts."""
        self.counts = np.load(folder / "counts.npy")

    def parameter_count(self) -> int:
        """Return the number of counts: one per item."""
        return len(self.counts)
