"""The tabular models by name, from simple to deep; each fits and predicts on the preprocessed matrix."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no types

from training.table.inputs import Labels, Matrix, Scores

MODEL_NAMES = ("base_rate", "logistic_regression", "decision_tree", "boosted_trees", "neural_network")
_FILE = "estimator.joblib"
_LARGE = 10_000_000  # numbers in a matrix


def _threads(matrix: Matrix) -> AbstractContextManager[Any]:
    """Limit OpenMP to one thread for a small matrix: contention made several threads ten times slower."""
    limited: AbstractContextManager[Any] = _controller().limit(
        limits=1 if matrix.size < _LARGE else None, user_api="openmp"
    )
    return limited


@cache
def _controller() -> Any:
    return ThreadpoolController()  # inspects the loaded libraries, which would be slow to repeat for each prediction


class Learner(Protocol):
    """What all tabular models have."""

    def fit(self, train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels]) -> None:
        """Learn from the training rows; the validation rows may decide when to stop."""

    def predict(self, matrix: Matrix) -> Scores:
        """Return probabilities, (rows,)."""

    def save(self, folder: Path) -> None:
        """Write what was learned, the same bytes for the same model."""


class Sklearn:
    """A scikit-learn classifier."""

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
        """Write the estimator with joblib."""
        joblib.dump(self.estimator, folder / _FILE)


_SKLEARN: dict[str, Callable[[int], Any]] = {
    "base_rate": lambda seed: DummyClassifier(strategy="prior"),
    "logistic_regression": lambda seed: LogisticRegression(max_iter=2_000, random_state=seed),
    "decision_tree": lambda seed: DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=seed),
    # for small tables: small steps, and early stopping on a tenth of the training rows
    "boosted_trees": lambda seed: HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=True,
        n_iter_no_change=15,
        random_state=seed,
    ),
}


def make(name: str, seed: int) -> Learner:
    """Return an untrained model of MODEL_NAMES; TensorFlow is imported only for the network."""
    if name in _SKLEARN:
        return Sklearn(_SKLEARN[name](seed))
    from training.table.network import Network

    return Network(seed)


def restore(name: str, folder: Path) -> Learner:
    """Load a trained model. Only load folders that we wrote: joblib files can execute code."""
    if name in _SKLEARN:
        return Sklearn(joblib.load(folder / _FILE))
    from training.table.network import Network

    return Network.load(folder)
