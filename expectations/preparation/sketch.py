"""The distribution of a number in bins of 0.8%, so that medians and limits of a log of any size come from one pass."""

import math
from dataclasses import dataclass, field

import polars as pl

_BINS = 128  # for each unit of sign(x) log(1 + |x|)
_MAD_TO_SPREAD = 1.4826  # of a normal distribution; as is the next
_MEAN_DEVIATION_TO_SPREAD = 1.2533


def level(number: pl.Expr) -> pl.Expr:
    """Return sign(x) log(1 + |x|): money and counts are heavy-tailed, and far is meant in proportion."""
    return number.sign() * number.abs().log1p()


def number_at(place: float) -> float:
    """Return the number of a level."""
    return math.copysign(math.expm1(abs(place)), place)


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

    def _quantile(self, distances: dict[float, int], share: float) -> float:
        reached, wanted = 0, share * self.count
        for distance, count in sorted(distances.items()):
            reached += count
            if reached >= wanted:
                return distance
        return math.nan

    def quantile(self, share: float) -> float:
        """Return the level below which a share of the numbers lies; nan where there is none."""
        return self._quantile({place / _BINS: count for place, count in self.bins.items()}, share)

    def spread(self) -> float:
        """Return a robust spread of the levels: by the median absolute deviation; where that is 0, by the mean one.

        Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers": most quantities of a shop are 1.
        """
        middle = self.quantile(0.5)
        distances: dict[float, int] = {}
        for place, count in sorted(self.bins.items()):
            distance = abs(place / _BINS - middle)
            distances[distance] = distances.get(distance, 0) + count
        median = self._quantile(distances, 0.5)
        if median > 0 or math.isnan(median):
            return _MAD_TO_SPREAD * median
        return _MEAN_DEVIATION_TO_SPREAD * sum(d * c for d, c in sorted(distances.items())) / self.count
