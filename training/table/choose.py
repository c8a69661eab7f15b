"""Which columns are inputs: without constants, names of rows, and leaks, judged on the training rows alone."""

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shoplens.errors import BrokenTableError, SettingsError
from shoplens.stage import console
from training.table.kinds import Column
from training.table.leaks import Strength, strength

_ID_NAME = re.compile(r"(?i:(^|[_\s-])(id|uuid|guid)$)|[a-z](Id|ID)$")
_ID_SHARE = 0.5  # of the filled values are distinct: such text has nothing that comes again to learn from
_LEAST = 20  # filled values below which that says nothing


@dataclass(frozen=True)
class Choice:
    """What the models see.

    Attributes:
        columns: The inputs, in the file's order.
        dropped: Column -> why it is none.
        kept: Column -> why it would have been dropped, had it not been asked for.
        strengths: Column -> what it says alone; constants and names of rows have none.
    """

    columns: tuple[Column, ...]
    dropped: dict[str, str]
    kept: dict[str, str]
    strengths: dict[str, Strength]


def _running(values: NDArray[np.float64]) -> bool:
    """Say whether distinct whole numbers run on: a split of 60% leaves gaps, so twice their count is their range."""
    return bool((values == np.floor(values)).all() and values.max() - values.min() <= 2 * len(values))


def useless(column: Column, values: pl.Series) -> str | None:
    """Return why a column of the training rows says nothing of rows to come, if so."""
    if values.n_unique() == 1:
        return "constant: " + ("never filled" if values[0] is None else "one value in every row")
    filled = values.drop_nulls()
    if column.kind not in ("category", "number") or len(filled) < _LEAST:
        return None
    distinct = filled.n_unique()
    named = _ID_NAME.search(column.name) if column.kind == "number" else True
    if distinct > _ID_SHARE * len(filled) and named:
        return f"names rows: {distinct:,} distinct values in {len(filled):,} filled rows"
    if column.kind == "number" and distinct == len(filled) and _running(filled.to_numpy()):
        return f"names rows: {distinct:,} whole numbers, each once, in a row"
    return None


def choose(
    columns: tuple[Column, ...],
    train: pl.DataFrame,
    label: NDArray[np.int8],
    keep: frozenset[str],
    seed: int,
    person: tuple[str, NDArray[np.int64]] | None = None,
) -> Choice:
    """Choose the inputs.

    Args:
        columns: Of the table.
        train: The training rows.
        label: Theirs, (rows,) 0 or 1.
        keep: Columns that are inputs whatever is found.
        seed: Of the folds on which a column is tried alone.
        person: The column that identifies people, and (rows,) a number per person.

    Raises:
        SettingsError: `keep` names a column that is not there.
        BrokenTableError: no column is left.
    """
    unknown = sorted(keep - {one.name for one in columns})
    if unknown:
        raise SettingsError(f"--keep: must be a column that can be an input; received {', '.join(map(repr, unknown))}")
    name, people = (None, None) if person is None else person
    reasons: dict[str, str] = {}
    strengths: dict[str, Strength] = {}
    for column in columns:
        values = train[column.name]
        why = useless(column, values)
        strengths[column.name] = found = strength(values, label, seed, people)
        why = "identifies people: nothing learned from it holds for new ones" if column.name == name else why
        reason = found.leak if found.leak is not None else why
        if reason is not None:
            reasons[column.name] = reason
            console.print(f"{'kept as asked' if column.name in keep else 'dropped'}: {column.name}: {reason}")
    chosen = tuple(one for one in columns if one.name not in reasons or one.name in keep)
    if not chosen:
        raise BrokenTableError(f"no column is left to learn from: {reasons}. Bring a table with more, or use --keep")
    dropped = {name: reason for name, reason in reasons.items() if name not in keep}
    return Choice(chosen, dropped, {name: reasons[name] for name in reasons if name in keep}, strengths)
