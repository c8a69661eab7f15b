"""What every tabular model answers, and the arrays that go in and out."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Labels = NDArray[np.int8]
Scores = NDArray[np.float32]


class Learner(Protocol):
    """What all models answer."""

    def fit(self, train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels]) -> None:
        """Learn from the training rows; the validation rows may say when to stop."""

    def predict(self, matrix: Matrix) -> Scores:
        """Return (rows,) probabilities."""

    def save(self, folder: Path) -> None:
        """Write what was learned, the same bytes for the same model."""
