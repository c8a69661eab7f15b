"""A histogram with bins of 0.8%, which gives medians and limits of a log of any size in one pass."""

import math
from dataclasses import dataclass, field

import polars as pl

_BINS = 128  # per unit of sign(x) log(1 + |x|)
_MAD_TO_SPREAD = 1.4826  # standard deviation / median absolute deviation of a normal distribution


def level(number: pl.Expr) -> pl.Expr:
    """Return sign(x) log(1 + |x|): money and counts are heavy-tailed, so distances are measured as ratios."""
    return number.sign() * number.abs().log1p()


def number_at(level: float) -> float:
    """Return the number with the given level; the inverse of `level`."""
    return math.copysign(math.expm1(abs(level)), level)


def _quantile(counts: dict[float, int], share: float) -> float:
    """Return the value below which a share of the counted values lies, NaN if there are none."""
    reached, wanted = 0, share * sum(counts.values())
    for value, count in sorted(counts.items()):
        reached += count
        if reached >= wanted:
            return value
    return math.nan


@dataclass
class Sketch:
    """A histogram of the levels of numbers; it does not depend on the order in which they are added."""

    bins: dict[int, int] = field(default_factory=dict)  # bin index -> count

    def add(self, values: pl.Series) -> None:
        """Add numbers; missing and infinite values are ignored."""
        finite = values.cast(pl.Float64).to_frame("x").filter(pl.col("x").is_finite())
        binned = finite.select((level(pl.col("x")) * _BINS).round().cast(pl.Int64).alias("bin"))
        for index, count in binned["bin"].value_counts().iter_rows():
            self.bins[index] = self.bins.get(index, 0) + count

    @property
    def count(self) -> int:
        """The number of values added."""
        return sum(self.bins.values())

    def quantile(self, share: float) -> float:
        """Return the level below which a share of the numbers lies, NaN if there are none."""
        return _quantile({index / _BINS: count for index, count in self.bins.items()}, share)

    def spread(self) -> float:
        """Return a robust spread of the levels: 1.4826 times their median absolute deviation.

        If more than half of the numbers are equal (most quantities are 1), that would be 0; only the others are used.
        """
        middle = self.quantile(0.5)
        distances: dict[float, int] = {}
        for index, count in self.bins.items():
            distance = abs(index / _BINS - middle)
            distances[distance] = distances.get(distance, 0) + count
        median = _quantile(distances, 0.5)
        if median == 0:
            median = _quantile({distance: count for distance, count in distances.items() if distance > 0}, 0.5)
        return _MAD_TO_SPREAD * median
