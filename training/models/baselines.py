"""The models that a deep model of purchases must beat: base rate, personal frequency, a line, trees."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from training.calibration import Platt
from training.models.contract import FloatArray, Model
from training.models.scaler import Scaler
from training.models.threads import one_thread
from training.rows import Inputs, RowSet

_RATE = "weekly_orders_90d"


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


class PersonalFrequency(BaseRate):
    """Predicts from the user's own order rate: the strongest simple baseline, because people repeat what they did."""

    name = "personal_frequency"

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return 1 - exp(-rate), the probability of at least one order per week in a Poisson process.

        Users without a rate get the base rate.
        """
        base = super().predict(inputs)
        if _RATE not in inputs.names:
            return base
        rate = inputs.tabular[:, inputs.names.index(_RATE)]
        return np.where(np.isnan(rate), base, -np.expm1(-rate)).astype(np.float32)


class Logistic(Model):
    """Logistic regression on standardized features."""

    name = "logistic_regression"
    tasks = frozenset({"purchase"})
    reads_history = False

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Fit on the training rows."""
        self._scaler = Scaler.fit(train.inputs)
        line = LogisticRegression(max_iter=2_000).fit(self._scaler.apply(train.inputs), train.labels > 0)
        self._weights, self._intercept = line.coef_[0], float(line.intercept_[0])

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return np.asarray(expit(self._scaler.apply(inputs) @ self._weights + self._intercept), dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Return scaler, weights and intercept; no file is written."""
        line = {"weights": self._weights.tolist(), "intercept": self._intercept}
        return {"scaler": self._scaler.as_json(), **line}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Restore the weights."""
        self._scaler, self._intercept = Scaler.from_json(kept["scaler"]), float(kept["intercept"])
        self._weights = np.array(kept["weights"])

    def parameter_count(self) -> int:
        """Return the number of weights."""
        return len(self._weights) + 1


_FILE = "trees.joblib"
_LARGE = 1_000_000  # values; with fewer, waiting for each other makes several threads slower than one


def _limited(values: NDArray[Any]) -> Any:
    """Limit OpenMP to one thread for few values: on a busy machine, several were ten times slower."""
    return one_thread("openmp", when=values.size < _LARGE)


class _Trees(Model):
    tasks = frozenset({"purchase"})
    reads_history = False

    @abstractmethod
    def _make(self, rows: int) -> Any:
        """Return the scikit-learn estimator for so many training rows, not yet fitted."""

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Fit on the training rows; missing values are handled at each split."""
        # A feature that is missing in all training rows (a shop without brands) cannot be binned; a constant can.
        absent = np.isnan(train.inputs.tabular).all(axis=0)
        values = np.where(absent, 0.0, train.inputs.tabular)
        with _limited(values):
            self.trees = self._make(len(train)).fit(values, train.labels.astype(np.int8))

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        with _limited(inputs.tabular):
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

    def _make(self, rows: int) -> Any:
        return DecisionTreeClassifier(max_depth=6, min_samples_leaf=50, random_state=self.recipe.seed)

    def parameter_count(self) -> int:
        """Return the number of nodes."""
        return int(self.trees.tree_.node_count)


class BoostedTrees(_Trees):
    """Histogram gradient boosting (LightGBM's algorithm), calibrated on the validation rows.

    Tuned on the validation rows of The Complete Journey: many small steps of small trees that see three tenths of the
    features at each split.
    """

    name = "boosted_trees"

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Fit on the training rows, calibrate on the validation rows."""
        super().fit(train, validation, live)
        self.platt = Platt.fit(self.logits(validation.inputs), validation.labels)

    def logits(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the logit of the probability before calibration, (rows,)."""
        with _limited(inputs.tabular):
            return np.asarray(self.trees.decision_function(inputs.tabular), dtype=np.float64)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return self.platt.probability(self.logits(inputs))

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the trees."""
        return {**super().export(folder), "platt": self.platt.as_json()}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the trees."""
        super().restore(folder, kept)
        self.platt = Platt(**kept["platt"])

    def _make(self, rows: int) -> Any:
        return HistGradientBoostingClassifier(
            max_iter=200,
            learning_rate=0.05,
            max_leaf_nodes=15,
            min_samples_leaf=min(200, max(20, rows // 400)),
            l2_regularization=10.0,
            max_features=0.3,
            early_stopping=False,
            random_state=self.recipe.seed,
        )

    def parameter_count(self) -> int:
        """Return the number of nodes of all trees."""
        return int(sum(len(tree.nodes) for step in self.trees._predictors for tree in step))
