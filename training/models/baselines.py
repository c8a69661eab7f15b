"""The models that a deep model must beat: base rate, popularity, personal frequency, and trees (scikit-learn)."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from training.models.contract import FloatArray, Model
from training.models.ranking import Ranking, top_items
from training.rows import Inputs, RowSet

_WINDOW = np.timedelta64(28, "D")  # recent enough to follow the season, long enough for stable counts
_RATE = "weekly_orders_90d"


def popular_counts(train: RowSet, size: int) -> FloatArray:
    """Return how often each catalogue index was a target in the last four weeks of training, (size,)."""
    newest = train.inputs.now >= train.inputs.now.max() - _WINDOW
    targets = [train.target_sets[k] for k in np.flatnonzero(newest)]
    counts = np.bincount(np.concatenate(targets), minlength=size).astype(np.float32)
    counts[:2] = 0
    return counts


class BaseRate(Model):
    """Predicts the share of buyers among the training rows for every user."""

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


class _OneArray(Model):
    """A model that learns one array.

    Attributes:
        file: Where the array is stored.
        learned: The array, float32.
    """

    file: str
    learned: FloatArray

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the array."""
        np.save(folder / self.file, self.learned)
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the array."""
        self.learned = np.load(folder / self.file)

    def parameter_count(self) -> int:
        """Return the size of the array."""
        return len(self.learned)


class Popularity(_OneArray):
    """Ranks items by how often they were the next item in the latest training weeks, for every user."""

    name = "popularity"
    tasks = frozenset({"next_item"})
    reads_history = False
    file = "counts.npy"

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Count the targets."""
        self.learned = popular_counts(train, self.catalogue.size)

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """Return the same items for every row, scored with their share of all targets."""
        share = self.learned / max(float(self.learned.sum()), 1.0)
        best = top_items(share[None, :], k)
        return Ranking(np.repeat(best.items, len(inputs), axis=0), np.repeat(best.scores, len(inputs), axis=0))


class PersonalFrequency(_OneArray):
    """Predicts from the user's own order rate, or from their own item counts with ties broken by popularity.

    People repeat what they did before: the strongest simple baseline for repeat purchases.
    """

    name = "personal_frequency"
    tasks = frozenset({"purchase", "next_item"})
    file = "base.npy"

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Learn the base rate or item popularity, for users and items without a history."""
        if self.recipe.task == "purchase":
            self.learned = np.array([np.mean(train.labels, dtype=np.float64)], dtype=np.float32)
        else:
            counts = popular_counts(train, self.catalogue.size)
            self.learned = (counts / (counts.sum() + 1)).astype(np.float32)  # below 1, so it only breaks ties

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return 1 - exp(-rate): the probability of at least one order per week in a Poisson process."""
        if _RATE not in inputs.names:
            return np.full(len(inputs), self.learned[0], dtype=np.float32)
        rate = inputs.tabular[:, inputs.names.index(_RATE)]
        return np.where(np.isnan(rate), self.learned[0], -np.expm1(-rate)).astype(np.float32)

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`; an item scores the number of its events in the history plus its popularity."""
        scores = np.broadcast_to(self.learned, (len(inputs), len(self.learned))).copy()
        row, place = inputs.history.flat()
        np.add.at(scores, (row, inputs.history.log.item_index[place]), np.float32(1))
        return top_items(scores, k)


_FILE = "trees.joblib"


class _Trees(Model):
    tasks = frozenset({"purchase"})
    reads_history = False

    @abstractmethod
    def _make(self) -> Any:
        """Return the scikit-learn estimator, not yet fitted."""

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Fit on the training rows; missing values are handled at each split."""
        # A feature that is missing in all training rows (a shop without brands) cannot be binned; a constant can.
        absent = np.isnan(train.inputs.tabular).all(axis=0)
        self.trees = self._make().fit(np.where(absent, 0.0, train.inputs.tabular), train.labels.astype(np.int8))

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        probability = self.trees.predict_proba(inputs.tabular)[:, list(self.trees.classes_).index(1)]
        return np.asarray(probability, dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the trees with joblib."""
        joblib.dump(self.trees, folder / _FILE)
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the trees. Only load packages that we built: joblib files can execute code."""
        self.trees = joblib.load(folder / _FILE)


class DecisionTree(_Trees):
    """A single tree, shallow enough for a person to read."""

    name = "decision_tree"

    def _make(self) -> Any:
        return DecisionTreeClassifier(max_depth=6, min_samples_leaf=50, random_state=self.recipe.seed)

    def parameter_count(self) -> int:
        """Return the number of nodes."""
        return int(self.trees.tree_.node_count)


class BoostedTrees(_Trees):
    """Histogram gradient boosting (LightGBM's algorithm)."""

    name = "boosted_trees"

    def _make(self) -> Any:
        return HistGradientBoostingClassifier(
            max_iter=200, learning_rate=0.06, max_leaf_nodes=31, early_stopping=False, random_state=self.recipe.seed
        )

    def parameter_count(self) -> int:
        """Return the number of nodes of all trees."""
        return int(sum(len(tree.nodes) for step in self.trees._predictors for tree in step))
