"""Column selection: drop constants, row identifiers and leaks, as determined on the training rows."""

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shoplens.errors import BrokenTableError, SettingsError
from shoplens.stage import console
from training.table.clean import Cleaned
from training.table.inputs import Column
from training.table.leaks import Strength, strength
from training.table.split import Split

_ID_NAME = re.compile(r"(?i:(^|[_\s-])(id|uuid|guid)$)|[a-z](Id|ID)$")
_ID_SHARE = 0.5  # a column with a larger share of distinct values identifies rows: its values do not recur
_LEAST = 20  # with fewer known values, the share is not meaningful


@dataclass(frozen=True)
class Selection:
    """The columns that the models use.

    Attributes:
        columns: The inputs, in the order of the file.
        dropped: Column -> why it was dropped.
        kept: Column -> why it would have been dropped without `--keep`.
        strengths: Column -> its predictive strength on its own.
    """

    columns: tuple[Column, ...]
    dropped: dict[str, str]
    kept: dict[str, str]
    strengths: dict[str, Strength]


def _is_running_number(values: NDArray[np.float64]) -> bool:
    """Return whether distinct numbers are nearly consecutive integers; a split of 60% leaves gaps."""
    return bool((values == np.floor(values)).all() and values.max() - values.min() <= 2 * len(values))


def reason_to_drop(column: Column, values: pl.Series) -> str | None:
    """Return why a column cannot predict new rows (it is constant or identifies rows), None if it can."""
    if values.n_unique() == 1:
        return "constant: " + ("always missing" if values[0] is None else "the same value in every row")
    filled = values.drop_nulls()
    if column.kind not in ("category", "number") or len(filled) < _LEAST:
        return None
    distinct = filled.n_unique()
    named = _ID_NAME.search(column.name) if column.kind == "number" else True
    if distinct > _ID_SHARE * len(filled) and named:
        return f"identifies rows: {distinct:,} distinct values in {len(filled):,} rows with a value"
    if column.kind == "number" and distinct == len(filled) and _is_running_number(filled.to_numpy()):
        return f"identifies rows: {distinct:,} consecutive whole numbers, each once"
    return None


def select_columns(cleaned: Cleaned, divided: Split, keep: frozenset[str], seed: int) -> Selection:
    """Select the input columns by the training rows, dropping none of `keep`.

    Raises:
        SettingsError: `keep` names a column that does not exist.
        BrokenTableError: no column is left.
    """
    columns, train = cleaned.columns, divided.where("train")
    unknown = sorted(keep - {one.name for one in columns})
    if unknown:
        raise SettingsError(
            f"--keep: must name input columns of the table; received {', '.join(map(repr, unknown))}. "
            f"Choose from {', '.join(one.name for one in columns)}"
        )
    people = None if cleaned.person is None else divided.people[train]
    reasons: dict[str, str] = {}
    strengths: dict[str, Strength] = {}
    for column in columns:
        values = cleaned.frame[column.name].filter(pl.Series(train))
        why = reason_to_drop(column, values)
        strengths[column.name] = found = strength(values, cleaned.label[train], seed, people)
        why = "identifies people: nothing learned from it holds for new ones" if column.name == cleaned.person else why
        reason = found.leak if found.leak is not None else why
        if reason is not None:
            reasons[column.name] = reason
            console.print(f"{'kept by --keep' if column.name in keep else 'dropped'}: {column.name}: {reason}")
    selected = tuple(one for one in columns if one.name not in reasons or one.name in keep)
    if not selected:
        raise BrokenTableError(f"no input column is left: {reasons}. Add columns to the table, or use --keep")
    dropped = {name: reason for name, reason in reasons.items() if name not in keep}
    return Selection(selected, dropped, {name: reasons[name] for name in reasons if name in keep}, strengths)
