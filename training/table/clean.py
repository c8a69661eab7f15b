"""From a file to typed rows, with the account: rows in = used + quarantined by reason + exact duplicates."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from events.guess.sample import sniff
from events.sources.files import TEXT, kind_of
from events.sources.readers import read_table
from shoplens.errors import SettingsError, SourceError
from training.table.columns import is_nested, person_column, read_column
from training.table.inputs import Column
from training.table.target import read_target

ROW, REASON = "shoplens_row", "shoplens_reason"
NO_GROUP = "none"
# A time that one row in a hundred lacks still orders the rest; one that is missing more often (the moment of the
# purchase) does not say when a row was.
_TIMED = 0.99


@dataclass(frozen=True)
class Account:
    """What became of the rows."""

    rows: int
    used: int
    quarantined: dict[str, int]
    exact_duplicates: int

    def __str__(self) -> str:
        quarantined = sum(self.quarantined.values())
        reasons = ", ".join(f"{name} {count:,}" for name, count in sorted(self.quarantined.items()))
        return (
            f"{self.rows:,} rows in = {self.used:,} used + {quarantined:,} quarantined"
            f"{f' ({reasons})' if reasons else ''} + {self.exact_duplicates:,} exact duplicates"
        )


@dataclass(frozen=True)
class Cleaned:
    """Typed rows that have a target.

    Attributes:
        frame: (rows, columns) typed values, without the target.
        label: (rows,) 0 or 1.
        copy_of: (rows,) equal for rows that are exact duplicates.
        columns: Of the frame, in the file's order.
        time: The column that orders the rows, if there is one.
        person: The column that identifies people of whom there are several rows, if there is one.
        dropped: Column -> why it is no input.
        quarantine: Rows as the file holds them, with their number in the file (from 1) and the reason.
        doubles: Groups of all rows with a target, copies included: what a plain split would have seen.
        double_label: Labels of the same rows.
    """

    frame: pl.DataFrame
    label: NDArray[np.int8]
    copy_of: NDArray[np.int64]
    columns: tuple[Column, ...]
    time: str | None
    person: str | None
    quarantine: pl.DataFrame
    account: Account
    doubles: NDArray[np.int64]
    double_label: NDArray[np.int8]
    dropped: dict[str, str] = field(default_factory=dict)


def read_flat(path: Path) -> pl.DataFrame:
    """Read a file as a table; how text is written is detected.

    Raises:
        SourceError: the file is missing, unreadable, of no known kind, or has no rows.
    """
    if not path.is_file():
        raise SourceError(f"--data: {path}: no such file")
    kind = kind_of(path)
    if kind is None:
        raise SourceError(f"--data: {path}: unknown kind of file; must be .csv, .csv.gz, .tsv, .parquet or .jsonl")
    frame = read_table(path, sniff(path).csv) if kind in TEXT else read_table(path)
    if frame.is_empty():
        raise SourceError(f"--data: {path}: must hold rows; it has none")
    return frame


def _time_column(columns: list[Column], typed: dict[str, pl.Series], asked: str | None) -> str | None:
    """Return the column that orders the rows: the one asked for, else the first time that nearly every row has."""
    times = [one.name for one in columns if one.kind == "time"]
    if asked is not None and asked not in times:
        raise SettingsError(
            f"--time: must be a column of times; received {asked!r}. Times of this table: {', '.join(times) or 'none'}"
        )
    known = [name for name in times if typed[name].is_not_null().mean() >= _TIMED]  # type: ignore[operator]
    return asked if asked is not None else next(iter(known), None)


def groups_of(frame: pl.DataFrame) -> NDArray[np.int64]:
    """Return (rows,): the place of the first row that is equal in every column."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]  # Polars groups by none of these
    plain = frame.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)
    first = pl.col(ROW).first().over(plain.columns)
    return plain.with_row_index(ROW).select(first.cast(pl.Int64)).to_series().to_numpy()


def _person_column(columns: list[Column], typed: dict[str, pl.Series], asked: str | None) -> str | None:
    """Return the column that identifies people: the one asked for, else the one whose IDs repeat."""
    if asked is None:
        return person_column(columns, typed)
    if asked != NO_GROUP and asked not in typed:
        raise SettingsError(
            f"--group: must be a column of the table, or {NO_GROUP}; received {asked!r}. It has {', '.join(typed)}"
        )
    return None if asked == NO_GROUP else asked


def clean(
    frame: pl.DataFrame,
    target: str,
    time: str | None = None,
    keep_duplicates: bool = False,
    *,
    group: str | None = None,
    dates: str | None = None,
) -> Cleaned:
    """Type the columns, and separate the rows to use from those that are quarantined or duplicates.

    `training.table.run.Request` explains the arguments.

    Raises:
        SettingsError: a named column is missing or not a time, or dates can be read in two ways.
        BrokenTableError: the target does not hold two values.
    """
    label, reason = read_target(frame, target)
    nested = {name: f"holds {kind}, which no model reads" for name, kind in frame.schema.items() if is_nested(kind)}
    read = [read_column(frame, name, dates) for name in frame.columns if name != target and name not in nested]
    columns, typed = [column for column, _ in read], {column.name: values for column, values in read}
    time, person = _time_column(columns, typed, time), _person_column(columns, typed, group)
    if time is not None:
        untimed = pl.lit(f"{time}: missing or unreadable")
        reason = pl.select(pl.coalesce(reason, pl.when(typed[time].is_null()).then(untimed))).to_series()
    good = reason.is_null()
    copies = groups_of(frame.filter(good))
    first = copies == np.arange(len(copies))
    use = np.ones_like(first) if keep_duplicates else first
    rows = pl.DataFrame(list(typed.values())).filter(good)
    labels = label.filter(good).cast(pl.Int8).to_numpy()
    quarantine = frame.with_row_index(ROW, offset=1).with_columns(reason.alias(REASON)).filter(~good)
    counts = dict(sorted(Counter(reason.drop_nulls().to_list()).items()))
    account = Account(len(frame), int(use.sum()), counts, int((~use).sum()))
    return Cleaned(
        rows.filter(use), labels[use], copies[use], tuple(columns), time, person, quarantine, account, copies, labels,
        nested,
    )  # fmt: skip
