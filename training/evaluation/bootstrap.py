"""95% intervals by resampling users: rows of one user are alike, so rows are no independent draws.

Cluster bootstrap with percentile intervals (Efron & Tibshirani, 1993, chapter 13). Two models are compared on the same
resamples: the interval is of their difference.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Array, Numbers, weighted_purchase_metrics

_TAIL = 2.5  # per cent on either side
_CHUNK = 50  # weightings at once: bounds memory at (50, rows)


@dataclass(frozen=True)
class Interval:
    """A figure on all rows, with its 95% interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return plain values, rounded to six places."""
        return {name: round(value, 6) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def user_weights(user: NDArray[np.str_], resamples: int, seed: int) -> NDArray[np.int32]:
    """Return (resamples + 1, rows): how often each row counts; the first line counts every row once."""
    names, member = np.unique(user, return_inverse=True)
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])
    counts = np.concatenate([np.ones((1, len(names)), dtype=counts.dtype), counts])
    return counts[:, member].astype(np.int32)


def _interval(values: Array) -> Interval:
    low, high = np.percentile(values[1:], [_TAIL, 100 - _TAIL])
    return Interval(float(values[0]), float(low), float(high))


def purchase_samples(label: Numbers, score: Numbers, weight: NDArray[np.int32], threshold: float) -> dict[str, Array]:
    """Return metric -> (resamples + 1,)."""
    parts = [
        weighted_purchase_metrics(label, score, weight[begin : begin + _CHUNK], threshold)
        for begin in range(0, len(weight), _CHUNK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def row_mean_samples(values: Array, weight: NDArray[np.int32]) -> Array:
    """Return (resamples + 1,): the mean over rows of a metric that each row has."""
    return np.asarray((weight @ values) / weight.sum(axis=1), dtype=np.float64)


def intervals(samples: dict[str, Array]) -> dict[str, Interval]:
    """Return the interval of every metric."""
    return {name: _interval(values) for name, values in samples.items()}


def paired_difference(new: Array, old: Array) -> Interval:
    """Return new - old; both from the same resamples, (resamples + 1,)."""
    return _interval(new - old)
