"""Train, validation and test: by time where there is a time, else stratified by a seed, copies of a row on one side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shoplens.errors import BrokenTableError

PARTS = ("train", "validation", "test")
_BOUNDS = (0.6, 0.8)  # where validation and test begin
_LEAST = 3  # rows of each value in each part, or its metrics say nothing


@dataclass(frozen=True)
class Split:
    """Which row is on which side.

    Attributes:
        part: (rows,) index into PARTS.
        how: For people.
        copies: Rows with a target that are exact copies of an earlier row, of the whole file.
        would_cross: Test rows of a plain stratified split of the whole file that have an exact copy among the rows
            learned from.
        crossing: Test rows of this split that have one.
    """

    part: NDArray[np.int8]
    how: str
    copies: int
    would_cross: int
    crossing: int

    def where(self, name: str) -> NDArray[np.bool_]:
        """Return (rows,): whether a row is in a part."""
        return np.asarray(self.part == PARTS.index(name))

    def as_json(self) -> dict[str, Any]:
        """Return the figures of the report."""
        rows = {name: int(self.where(name).sum()) for name in PARTS}
        duplicates = {"copies": self.copies, "would_have_crossed": self.would_cross, "crossing": self.crossing}
        return {"how": self.how, "rows": rows, "duplicates": duplicates}


def _by_seed(label: NDArray[np.int8], group: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """Return (rows,) parts: the groups of each label, shuffled, cut at the bounds; a group lies on one side whole."""
    names, first, member, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    part = np.zeros(len(names), dtype=np.int8)
    for value in (0, 1):
        of_label = order[label[first[order]] == value]
        total = np.cumsum(size[of_label])
        middle = (total - size[of_label] / 2) / total[-1]
        part[of_label] = np.searchsorted(_BOUNDS, middle, side="right")
    return part[member]


def _by_time(time: pl.Series) -> NDArray[np.int8]:
    """Return (rows,) parts: earlier rows train; rows of one moment lie on one side."""
    moments = time.dt.epoch("us").to_numpy()
    cuts = np.sort(moments)[[int(bound * len(moments)) for bound in _BOUNDS]]
    return np.searchsorted(cuts, moments, side="right").astype(np.int8)


def crossing(part: NDArray[np.int8], group: NDArray[np.int64]) -> int:
    """Return how many test rows have a row of their group among those learned from."""
    test = part == PARTS.index("test")
    return int(np.isin(group[test], group[~test]).sum())


def split(
    label: NDArray[np.int8],
    copy_of: NDArray[np.int64],
    time: pl.Series | None,
    doubles: tuple[NDArray[np.int64], NDArray[np.int8]],
    seed: int,
) -> Split:
    """Split the rows 60 : 20 : 20.

    Args:
        label: (rows,) 0 or 1.
        copy_of: (rows,) equal for exact duplicates.
        time: (rows,) moments, none missing; None where the table has no time.
        doubles: The same two arrays for all rows of the file that have a target, copies included.
        seed: Of the shuffle.

    Raises:
        BrokenTableError: a part would have fewer than three rows of one value.
    """
    if time is None:
        part, how = _by_seed(label, copy_of, seed), f"stratified by the target, shuffled with seed {seed}"
    else:
        part, how = _by_time(time), f"by time ({time.name}): earlier rows train, later rows test"
    for index, name in enumerate(PARTS):
        counts = np.bincount(label[part == index], minlength=2)
        if counts.min() < _LEAST:
            raise BrokenTableError(
                f"target: the {name} rows, split {how}, must have at least {_LEAST} of each value; they have "
                f"{counts[1]} true and {counts[0]} false. Bring more rows; equal rows lie on one side, or "
                f"are set aside without --keep-duplicates"
            )
    groups, labels = doubles
    plain = _by_seed(labels, np.arange(len(groups)), seed)
    copies = len(groups) - len(np.unique(groups))
    return Split(part, how, copies, crossing(plain, groups), crossing(part, copy_of))
