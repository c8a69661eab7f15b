"""Bootstrap resamples of users, and the 95% intervals that they give.

The rows of one user are not independent samples, so users are drawn, not rows: cluster bootstrap with percentile
intervals (Efron & Tibshirani, 1993, chapter 13). Two models are compared on the same resamples, which gives an interval
for their difference.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_TAIL = 2.5  # per cent on each side
_CELLS = 1 << 22  # weights held at once: 16 MiB, whatever the number of rows and of resamples


class Resamples:
    """How often each row counts in each resample.

    The weights of a million rows in 500 resamples would take 2 GB, so they are drawn again from the seed, a few
    resamples at a time, whenever they are needed.

    Attributes:
        rows: The number of rows.
        count: The number of resamples.
    """

    def __init__(self, user: NDArray[Any], count: int, seed: int) -> None:
        """Prepare `count` resamples of the rows of `user`, (rows,)."""
        names, self._member = np.unique(user, return_inverse=True)
        self._users, self._seed = len(names), seed
        self.rows, self.count = len(user), count

    def batches(self) -> Iterator[NDArray[np.int32]]:
        """Yield weights, (some, rows), `count + 1` in all; the very first are all ones: the rows themselves."""
        random = np.random.default_rng(self._seed)
        size = max(1, _CELLS // max(self.rows, self._users, 1))
        yield np.ones((1, self.rows), dtype=np.int32)
        for begin in range(0, self.count, size):
            draws = random.integers(0, self._users, size=(min(size, self.count - begin), self._users))
            counts = np.stack([np.bincount(draw, minlength=self._users) for draw in draws]).astype(np.int32)
            yield counts[:, self._member]

    def mean(self, values: Array, only: NDArray[np.bool_] | None = None) -> Array:
        """Return the mean over rows of a per-row value, on all rows and on each resample, (count + 1,).

        Args:
            values: One value per row, or per row of `only`.
            only: The rows that have a value, (rows,); a resample without any of them has mean 0.
        """
        chosen = slice(None) if only is None else only
        parts = []
        for weight in self.batches():
            used = weight[:, chosen]
            total = used.sum(axis=1).astype(np.float64)
            parts.append(np.divide(used @ values, total, out=np.zeros_like(total), where=total > 0))
        return np.concatenate(parts)


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


def interval(values: Array) -> Interval:
    """Return a metric with its interval, given its values on all rows and on each resample."""
    low, high = np.percentile(values[1:], [_TAIL, 100 - _TAIL])
    return Interval(float(values[0]), float(low), float(high))


def intervals(samples: dict[str, Array]) -> dict[str, Interval]:
    """Return the interval of every metric."""
    return {name: interval(values) for name, values in samples.items()}


def paired_difference(new: Array, old: Array) -> Interval:
    """Return new - old with its interval; both are (resamples + 1,) values on the same resamples."""
    return interval(new - old)
