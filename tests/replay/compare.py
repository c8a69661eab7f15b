"""Values of two computations side by side: how many, and which differ. Missing equals missing, nothing is rounded."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl


@dataclass
class Comparison:
    """Counts of compared values by what they are of, and the first differences."""

    values: dict[str, int] = field(default_factory=dict)
    differences: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, of: str, name: str, key: Any, left: Any, right: Any) -> None:
        """Compare one value of a live and of a batch computation."""
        self.values[of] = self.values.get(of, 0) + 1
        if not _equal(left, right):
            self.differences += 1
            if len(self.examples) < 10:
                self.examples.append(f"{of} {name} of {key}: live {left!r}, batch {right!r}")

    def tables(self, of: str, left: pl.DataFrame, right: pl.DataFrame, keys: list[str]) -> None:
        """Compare all values of two tables with the same keys, whole columns at a time."""
        if left.columns != right.columns or left.height != right.height:
            self.differences += 1
            self.examples.append(f"{of}: live {left.shape} {left.columns}, batch {right.shape} {right.columns}")
            return
        left, right = left.sort(keys), right.sort(keys)
        self.values[of] = self.values.get(of, 0) + left.height * (left.width - len(keys))
        for name in left.columns:
            same = left[name].eq_missing(right[name])
            if not same.all():
                self.differences += int((~same).sum())
                place = int((~same).arg_true()[0])
                row = left.row(place, named=True)
                self.examples.append(
                    f"{of} {name} of {[row[k] for k in keys]}: live {row[name]!r}, batch {right[name][place]!r}"
                )

    @property
    def total(self) -> int:
        """Values compared."""
        return sum(self.values.values())

    def lines(self) -> Iterable[str]:
        """Yield what was compared, for a person."""
        for of, count in self.values.items():
            yield f"  {of:<46} {count:>12,} values"
        yield f"  {'all':<46} {self.total:>12,} values, {self.differences:,} differences"
        yield from (f"    {example}" for example in self.examples)


def _equal(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right
    one, other = np.asarray(left), np.asarray(right)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fc" and other.dtype.kind in "fc":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))
