"""95% intervals by resampling users: the rows of one user are similar, so rows are not independent samples.

Cluster bootstrap with percentile intervals (Efron & Tibshirani, 1993, chapter 13). Two models are compared on the same
resamples, which gives an interval for their difference.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Array, Numbers, weighted_purchase_metrics

_TAIL = 2.5  # per cent on each side
_CHUNK = 50  # resamples computed at once, which bounds memory at (50, rows)


@dataclass(frozen=True)
class Interval:
    """A metric on all rows with its 95% interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return JSON-serializable values, rounded to six decimals."""
        return {name: round(value, 6) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def user_weights(user: NDArray[np.str_], resamples: int, seed: int) -> NDArray[np.int32]:
    """Return how often each row counts in each resample, (resamples + 1, rows); the first row is all ones."""
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
    """Return metric -> values on all rows and on each resample, (resamples + 1,)."""
    parts = [
        weighted_purchase_metrics(label, score, weight[begin : begin + _CHUNK], threshold)
        for begin in range(0, len(weight), _CHUNK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def row_mean_samples(values: Array, weight: NDArray[np.int32]) -> Array:
    """Return the mean over rows of a per-row metric, on all rows and on each resample, (resamples + 1,)."""
    return np.asarray((weight @ values) / weight.sum(axis=1), dtype=np.float64)


def intervals(samples: dict[str, Array]) -> dict[str, Interval]:
    """Return the interval of every metric."""
    return {name: _interval(values) for name, values in samples.items()}


def paired_difference(new: Array, old: Array) -> Interval:
    """Return new - old with its interval; both are (resamples + 1,) values on the same resamples."""
    return _interval(new - old)
