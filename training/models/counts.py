"""Counts that a next-item model must beat: what is popular, and what the person takes often.

Both choose their one setting by NDCG@10 on the validation rows.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.items import NAMES as ITEM_NAMES
from training.metrics import ranking_metrics
from training.models.contract import Model
from training.models.memory import Visits
from training.models.ranking import Ranking, top_items, top_pairs
from training.rows import Inputs, RowSet

_BATCH = 128  # rows ranked at once
_TOP = 20


def ndcg(ranking: Ranking, rows: RowSet) -> float:
    """Return NDCG@10 on rows."""
    return float(ranking_metrics(ranking.items, rows.target_sets)["ndcg@10"].mean())


def popular_items(inputs: Inputs, column: str, k: int) -> NDArray[np.int32]:
    """Return the k items with the largest value in a column of the item tables as of each row, (rows, k)."""
    tables, place = np.unique(inputs.item_tables.at(inputs.now), return_inverse=True)
    return top_items(inputs.item_tables.values[tables, :, ITEM_NAMES.index(column)], k).items[place]


class _Tuned(Model):
    """A model with one setting, chosen on the validation rows."""

    tasks = frozenset({"next_item"})
    settings: ClassVar[tuple[Any, ...]]

    @abstractmethod
    def _rank(self, inputs: Inputs, k: int, setting: Any) -> Ranking:
        """Rank with a setting."""

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Choose the setting; the first of equals."""
        reached = [ndcg(self._ranked(validation.inputs, _TOP, one), validation) for one in self.settings]
        self.setting: Any = self.settings[int(np.argmax(reached))]

    def _ranked(self, inputs: Inputs, k: int, setting: Any) -> Ranking:
        batches = (inputs.take(slice(begin, begin + _BATCH)) for begin in range(0, len(inputs), _BATCH))
        return Ranking.join([self._rank(rows, k, setting) for rows in batches])

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`."""
        return self._ranked(inputs, k, self.setting)

    def export(self, folder: Path) -> dict[str, Any]:
        """Return the setting; no file is written."""
        return {"setting": self.setting}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Restore the setting."""
        self.setting = tuple(kept["setting"]) if isinstance(kept["setting"], list) else kept["setting"]

    def parameter_count(self) -> int:
        """Return 1: the setting."""
        return 1


class Popularity(_Tuned):
    """Ranks items by their decayed count as of each row's time; the setting is the column of the item tables."""

    name = "popularity"
    reads_history = False
    settings = tuple(name for name in ITEM_NAMES if name.endswith("d"))

    def _rank(self, inputs: Inputs, k: int, setting: str) -> Ranking:
        """Score items with their share of all counts."""
        tables, place = np.unique(inputs.item_tables.at(inputs.now), return_inverse=True)
        counts = inputs.item_tables.values[tables, :, ITEM_NAMES.index(setting)]
        best = top_items(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9), k)
        return Ranking(best.items[place], best.scores[place])


class DecayedFrequency(_Tuned):
    """Ranks the items of the history by a count that decays, exp(-days/d), plus 0.3 of one that decays over a year.

    The setting is d. Popular items fill the places after the person's own.
    """

    name = "decayed_frequency"
    settings = (0.02, 1.0, 14.0, 30.0, 45.0, 90.0)  # days; 0.02 is half an hour, for sessions

    def _rank(self, inputs: Inputs, k: int, setting: float) -> Ranking:
        """Score items with the decayed count."""
        visits = Visits.read(inputs.history, inputs.now)
        score = np.exp(-visits.age / setting) + 0.3 * np.exp(-visits.age / 365.0)
        found = top_pairs(visits.row, visits.item, score, len(inputs), self.catalogue.size, k)
        return found.filled(popular_items(inputs, "item_events_28d", 2 * k))
