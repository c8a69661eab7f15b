"""Boosted trees whose number and size are chosen on the validation rows."""

from pathlib import Path
from typing import Any

import numpy as np

from training.models.baselines import BoostedTrees
from training.rows import RowSet

# Trees and leaves of each, from simple to complex; a table may have hundreds of rows or millions.
_SETTINGS = ((80, 6), (250, 15))
_RATE = 0.03


class TunedTrees(BoostedTrees):
    """The `BoostedTrees` with the lowest log loss on the validation rows among a few settings."""

    name = "tuned_trees"
    _setting = _SETTINGS[0]

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Fit each setting on the training rows; keep and calibrate the best on the validation rows."""
        found = []
        for self._setting in _SETTINGS:
            super().fit(train, validation, live)
            sign = np.where(validation.labels > 0, -1, 1)
            loss = float(np.logaddexp(0, sign * self.platt.line(self.logits(validation.inputs))).mean())
            found.append((loss, self.trees, self.platt))
        _, self.trees, self.platt = min(found, key=lambda one: one[0])

    def _make(self, rows: int) -> Any:
        trees, leaves = self._setting
        return super()._make(rows).set_params(max_iter=trees, max_leaf_nodes=leaves, learning_rate=_RATE)
