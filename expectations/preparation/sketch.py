"""A histogram with bins of 0.8%, which gives medians and limits of a log of any size in one pass."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

_BINS = 128  # per unit of sign(x) log(1 + |x|): money and counts are heavy-tailed, so distances are measured as ratios
_MAD_TO_SPREAD = 1.4826  # standard deviation / median absolute deviation of a normal distribution


def number_at(level: float) -> float:
    """Return the number x with the level sign(x) log(1 + |x|)."""
    return math.copysign(math.expm1(abs(level)), level)


def _quantile(counts: Mapping[float, int], share: float) -> float:
    """Return the value below which a share of the counted values lies, NaN if there are none."""
    reached, wanted = 0, share * sum(counts.values())
    for value, count in sorted(counts.items()):
        reached += count
        if reached >= wanted:
            return value
    return math.nan


@dataclass(frozen=True)
class Sketch:
    """A histogram of the levels of numbers; it does not depend on their order."""

    levels: dict[float, int] = field(default_factory=dict)  # level, a multiple of 1 / _BINS -> count

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.levels.values())

    def quantile(self, share: float) -> float:
        """Return the level below which a share of the numbers lies, NaN if there are none."""
        return _quantile(self.levels, share)

    def spread(self) -> float:
        """Return a robust spread of the levels: 1.4826 times their median absolute deviation.

        If more than half of the numbers are equal (most quantities are 1), that would be 0; only the others are used.
        """
        middle, distances = self.quantile(0.5), Counter[float]()
        for level, count in self.levels.items():
            distances[abs(level - middle)] += count
        positive = {distance: count for distance, count in distances.items() if distance > 0}
        return _MAD_TO_SPREAD * (_quantile(distances, 0.5) or _quantile(positive, 0.5))


def sketch_of(rows: pl.LazyFrame, column: str) -> Sketch:
    """Return the histogram of the finite values of a column."""
    number = pl.col(column).cast(pl.Float64)
    level = (number.sign() * number.abs().log1p() * _BINS).round().cast(pl.Int64) / _BINS
    counted = rows.select(number).filter(number.is_finite()).group_by(level).len().collect(engine="streaming")
    return Sketch(dict(counted.iter_rows()))
