"""Personal frequency: people repeat what they did before. The strongest simple baseline for repeat purchases."""

from pathlib import Path
from typing import Any

import numpy as np

from training.models.contract import FloatArray, Model
from training.models.popularity import popular_counts
from training.rows.inputs import Inputs
from training.rows.rowset import RowSet

_RATE = "weekly_orders_90d"


class PersonalFrequency(Model):
    """Predicts from the user's own order rate, or from their own item counts with ties broken by popularity."""

    name = "personal_frequency"
    tasks = frozenset({"purchase", "next_item"})

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Learn the base rate or item popularity, for users and items without a history."""
        if self.recipe.task == "purchase":
            self.base = np.array([np.mean(train.labels, dtype=np.float64)], dtype=np.float32)
        else:
            counts = popular_counts(train, self.catalogue.size)
            self.base = (counts / (counts.sum() + 1)).astype(np.float32)  # below 1, so it only breaks ties

    def _purchase(self, inputs: Inputs) -> FloatArray:
        """Return 1 - exp(-rate), the probability of at least one order per week in a Poisson process, (rows,)."""
        if _RATE not in inputs.names:
            return np.full(len(inputs), self.base[0], dtype=np.float32)
        rate = inputs.tabular[:, inputs.names.index(_RATE)]
        return np.where(np.isnan(rate), self.base[0], -np.expm1(-rate)).astype(np.float32)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        if self.recipe.task == "purchase":
            return self._purchase(inputs)
        scores = np.broadcast_to(self.base, (len(inputs), len(self.base))).copy()
        items = inputs.recent.item_index
        np.add.at(scores, (np.arange(len(items))[:, None], items), np.float32(1))
        scores[:, :2] = -np.inf
        return scores

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the base rate or the popularity."""
        np.save(folder / "base.npy", self.base)
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the base rate or the popularity."""
        self.base = np.load(folder / "base.npy")

    def parameter_count(self) -> int:
        """Return the size of the learned fallback."""
        return len(self.base)
