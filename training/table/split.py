"""Split rows into train, validation and test: by time if there is a time column, else stratified and seeded.

Copies of a row are always in the same part. Without a time column, so are all rows of a person if a column identifies
people: the model is then evaluated on unseen people.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from shoplens.errors import BrokenTableError
from training.table.clean import Cleaned

PARTS = ("train", "validation", "test")
_BOUNDS = (0.6, 0.8)  # start of validation and test
_LEAST = 3  # rows of each label in each part; with fewer, metrics are meaningless
_FOLDS = 5  # one for test, one for validation, the rest for training


@dataclass(frozen=True)
class Split:
    """The assignment of rows to parts.

    Attributes:
        part: (rows,) index into PARTS.
        how: Human-readable description of the split.
        copies: Number of rows with a target in the whole file that are exact copies of an earlier row.
        would_cross: Number of test rows with an exact copy in train or validation if a plain stratified split divided
            the whole file.
        crossing: Number of such test rows in this split.
        people: (rows,) group numbers, the same for all rows of a person; unique per row if no column identifies people.
        group: The column that identifies people, if any.
        known_people: Number of test rows of people who also have rows in train or validation.
    """

    part: NDArray[np.int8]
    how: str
    copies: int
    would_cross: int
    crossing: int
    people: NDArray[np.int64]
    group: str | None
    known_people: int

    def where(self, name: str) -> NDArray[np.bool_]:
        """Return a (rows,) mask of the rows in the part `name`."""
        return np.asarray(self.part == PARTS.index(name))

    def as_json(self) -> dict[str, Any]:
        """Return the figures of the report."""
        rows = {name: int(self.where(name).sum()) for name in PARTS}
        duplicates = {"copies": self.copies, "would_have_crossed": self.would_cross, "crossing": self.crossing}
        people = {"column": self.group, "test_rows_of_known_people": self.known_people}
        return {"how": self.how, "rows": rows, "duplicates": duplicates, "people": people}


def _by_seed(label: NDArray[np.int8], group: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """Return (rows,) parts: each label's groups are shuffled and cut at the bounds; groups are never divided."""
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
    """Return (rows,) parts by time, earliest rows first; simultaneous rows are in the same part."""
    moments = time.dt.epoch("us").to_numpy()
    cuts = np.sort(moments)[[int(bound * len(moments)) for bound in _BOUNDS]]
    return np.searchsorted(cuts, moments, side="right").astype(np.int8)


def _by_person(label: NDArray[np.int8], person: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """Return (rows,) parts: a person's rows are in one part, and labels have about the same share in each part.

    Raises:
        BrokenTableError: there are fewer people than folds.
    """
    if len(np.unique(person)) < _FOLDS:
        raise BrokenTableError(
            f"--group: must name a column with at least {_FOLDS} values; it has {len(np.unique(person))}. Name another "
            f"column, or split by rows with --group none"
        )
    part = np.zeros(len(label), dtype=np.int8)
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed).split(label, label, person)
    for name, (_, rows) in zip(("test", "validation"), folds, strict=False):
        part[rows] = PARTS.index(name)
    return part


def crossing(part: NDArray[np.int8], group: NDArray[np.int64]) -> int:
    """Return the number of test rows with a row of their group in train or validation."""
    test = part == PARTS.index("test")
    return int(np.isin(group[test], group[~test]).sum())


def person_numbers(cleaned: Cleaned) -> NDArray[np.int64]:
    """Return (rows,) group numbers: rows of one person share one; if no column identifies people, copies do.

    A row without a person is grouped with its copies.
    """
    if cleaned.person is None:
        return cleaned.copy_of
    person = cleaned.frame[cleaned.person]
    filled = person.rank("dense").cast(pl.Int64).fill_null(0).to_numpy()
    return np.where(person.is_null().to_numpy(), -1 - cleaned.copy_of, filled)


def split(cleaned: Cleaned, seed: int) -> Split:
    """Split the rows 60 : 20 : 20.

    Raises:
        BrokenTableError: a part would have fewer than three rows of a label, or there are too few people.
    """
    label, copy_of, person = cleaned.label, cleaned.copy_of, cleaned.person
    people = np.arange(len(label)) if person is None else person_numbers(cleaned)
    if cleaned.time is not None:
        part = _by_time(cleaned.frame[cleaned.time])
        how = f"by time ({cleaned.time}): earlier rows train, later rows test"
    elif person is not None:
        part = _by_person(label, people, seed)
        how = (
            f"by {person}, which repeats: all rows of one {person} are in one part, so that the test "
            f"rows are of new ones; stratified by the target, shuffled with seed {seed}"
        )
    else:
        part, how = _by_seed(label, copy_of, seed), f"stratified by the target, shuffled with seed {seed}"
    for index, name in enumerate(PARTS):
        counts = np.bincount(label[part == index], minlength=2)
        if counts.min() < _LEAST:
            raise BrokenTableError(
                f"target: the {name} rows, split {how}, must have at least {_LEAST} of each value; they have "
                f"{counts[1]} true and {counts[0]} false. Provide more rows. Equal rows are in one part, or only the "
                f"first counts without --keep-duplicates; rows of one person are in one part without --group none"
            )
    groups = cleaned.doubles
    plain = _by_seed(cleaned.double_label, np.arange(len(groups)), seed)
    copies = len(groups) - len(np.unique(groups))
    known_people = 0 if person is None else crossing(part, people)
    return Split(part, how, copies, crossing(plain, groups), crossing(part, copy_of), people, person, known_people)
