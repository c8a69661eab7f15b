"""The tabular models by name, from simple to deep; each answers `fit` and `predict` on the prepared matrix."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no types

from training.table.learner import Labels, Learner, Matrix, Scores

MODEL_NAMES = ("base_rate", "logistic_regression", "decision_tree", "boosted_trees", "neural_network")
_FILE = "estimator.joblib"
_LARGE = 10_000_000  # numbers in a matrix


def _threads(matrix: Matrix) -> AbstractContextManager[Any]:
    """Hold OpenMP to one thread for a small matrix: waiting for each other, threads took ten times as long."""
    limited: AbstractContextManager[Any] = _controller().limit(
        limits=1 if matrix.size < _LARGE else None, user_api="openmp"
    )
    return limited


@cache
def _controller() -> Any:
    return ThreadpoolController()  # looks through the loaded libraries once, not at every prediction


class Sklearn:
    """A classifier of scikit-learn."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels]) -> None:
        """See `Learner.fit`."""
        with _threads(train[0]):
            self.estimator.fit(*train)

    def predict(self, matrix: Matrix) -> Scores:
        """See `Learner.predict`."""
        with _threads(matrix):
            return np.asarray(self.estimator.predict_proba(matrix)[:, 1], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write scikit-learn's own persistence."""
        joblib.dump(self.estimator, folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> "Sklearn":
        """Read it; only ever from a folder that we wrote: the format can run code."""
        return cls(joblib.load(folder / _FILE))


def _boosted(seed: int) -> Any:
    """Small steps, and a tenth of the training rows to say when to stop: a flat table is often small."""
    return HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=True,
        n_iter_no_change=15,
        random_state=seed,
    )


_SKLEARN: dict[str, Callable[[int], Any]] = {
    "base_rate": lambda seed: DummyClassifier(strategy="prior"),
    "logistic_regression": lambda seed: LogisticRegression(max_iter=2_000, random_state=seed),
    "decision_tree": lambda seed: DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=seed),
    "boosted_trees": _boosted,
}


def make(name: str, seed: int) -> Learner:
    """Return an untrained model of MODEL_NAMES; TensorFlow is imported only for the network."""
    if name in _SKLEARN:
        return Sklearn(_SKLEARN[name](seed))
    from training.table.network import Network

    return Network(seed)


def restore(name: str, folder: Path) -> Learner:
    """Read a trained model."""
    if name in _SKLEARN:
        return Sklearn.load(folder)
    from training.table.network import Network

    return Network.load(folder)
