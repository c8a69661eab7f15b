"""Shared negatives of a training step; they depend on the seed and the step, not on the backend."""

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import ModelError


class Negatives:
    """Draws items in proportion to count ** power, with replacement.

    Args:
        counts: How often each item was a target in training, (items,).
        number: Draws per step.
        power: 0 draws uniformly, 1 by popularity. Every item's count is at least 1.
        seed: Seed of the training.
    """

    def __init__(self, counts: NDArray[np.int64], number: int, power: float, seed: int) -> None:
        if number < 1:
            raise ModelError(f"negatives: must be at least 1; received {number}")
        weight = np.maximum(counts, 1).astype(np.float64) ** power
        self._cumulative = np.cumsum(weight)
        self.log_expected = np.log(number * weight / self._cumulative[-1]).astype(np.float32)  # (items,)
        self._number, self._seed = number, seed

    def draw(self, step: int) -> NDArray[np.int32]:
        """Return the rows (item numbers minus one) of the negatives of one step, (number,)."""
        draws = np.random.default_rng((self._seed, step)).random(self._number) * self._cumulative[-1]
        row: NDArray[np.int64] = np.searchsorted(self._cumulative, draws, side="right")
        return np.minimum(row, len(self._cumulative) - 1).astype(np.int32)
