"""The distribution of a number in bins of 0.8%, so that medians and limits of a log of any size come from one pass."""

import math
from dataclasses import dataclass, field

import polars as pl

_BINS = 128  # for each unit of sign(x) log(1 + |x|)
_MAD_TO_SPREAD = 1.4826  # of a normal distribution


def level(number: pl.Expr) -> pl.Expr:
    """Return sign(x) log(1 + |x|): money and counts are heavy-tailed, and far is meant in proportion."""
    return number.sign() * number.abs().log1p()


def number_at(place: float) -> float:
    """Return the number of a level."""
    return math.copysign(math.expm1(abs(place)), place)


def _quantile(counts: dict[float, int], share: float) -> float:
    """Return the value below which a share of counted values lies; nan where there is none."""
    reached, wanted = 0, share * sum(counts.values())
    for value, count in sorted(counts.items()):
        reached += count
        if reached >= wanted:
            return value
    return math.nan


@dataclass
class Sketch:
    """How often numbers fell into each bin; counts add up in any order.

    Attributes:
        bins: Place -> numbers in it.
    """

    bins: dict[int, int] = field(default_factory=dict)

    def add(self, values: pl.Series) -> None:
        """Add numbers; missing and infinite ones count nowhere."""
        known = values.cast(pl.Float64).to_frame("x").filter(pl.col("x").is_finite())
        placed = known.select((level(pl.col("x")) * _BINS).round().cast(pl.Int64).alias("place"))
        for place, count in placed["place"].value_counts().iter_rows():
            self.bins[place] = self.bins.get(place, 0) + count

    @property
    def count(self) -> int:
        """Return how many numbers were added."""
        return sum(self.bins.values())

    def quantile(self, share: float) -> float:
        """Return the level below which a share of the numbers lies; nan where there is none."""
        return _quantile({place / _BINS: count for place, count in self.bins.items()}, share)

    def spread(self) -> float:
        """Return a robust spread of the levels: 1.4826 times their median absolute deviation from the median.

        Where more than half are one value, as most quantities of a shop are 1, that would be 0: the others tell.
        """
        middle = self.quantile(0.5)
        distances: dict[float, int] = {}
        for place, count in self.bins.items():
            distance = abs(place / _BINS - middle)
            distances[distance] = distances.get(distance, 0) + count
        median = _quantile(distances, 0.5)
        if median == 0:
            median = _quantile({distance: count for distance, count in distances.items() if distance > 0}, 0.5)
        return _MAD_TO_SPREAD * median
