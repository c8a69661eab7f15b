"""What the columns of a flat table are: a number, a boolean, a category or a time, read from text where it is text."""

import re

import polars as pl

from events.contract import UTC_TIME
from events.transform.numbers import number, text
from events.transform.times import moment
from training.table.kinds import Column, Kind

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "?", "\\n")  # lower case; "\n" in two signs is MySQL's
TRUE, FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
# A column with one unreadable cell in twenty is a column of that kind with mistakes in it; with more it is text.
_READABLE = 0.95
_TIME_NAME = re.compile(r"(^|[_\s])(time|timestamp|ts|date|datetime|at)$", re.IGNORECASE)
_DATE = r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_EPOCHS = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}  # -> units in a second
_EPOCH_SECONDS = (946_684_800, 4_102_444_800)  # 2000 to 2100: smaller numbers are amounts or durations


def is_nested(kind: pl.DataType) -> bool:
    """Say whether a column's type is one that no model here reads: lists, records, bytes, durations."""
    return kind.is_nested() or kind in (pl.Binary, pl.Duration, pl.Time, pl.Object)


def plain(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Return a column as text without surrounding blanks, null where it says that nothing is known."""
    value = text(frame, name)
    return pl.when(~value.str.to_lowercase().is_in(MISSING)).then(value)


def truth(value: pl.Expr) -> pl.Expr:
    """Return text as a boolean; null where it is neither."""
    lower = value.str.to_lowercase()
    return pl.when(lower.is_in(TRUE)).then(True).when(lower.is_in(FALSE)).then(False)


def _epoch(values: pl.Series) -> str | None:
    """Return the unit in which whole numbers are moments of this century, if they are."""
    low, high = values.min(), values.max()
    for unit, scale in _EPOCHS.items():
        if low is not None and _EPOCH_SECONDS[0] * scale <= low and high <= _EPOCH_SECONDS[1] * scale:  # type: ignore[operator]
            return unit
    return None


def _time(frame: pl.DataFrame, name: str, filled: pl.Series) -> pl.Series | None:
    kind = frame.schema[name]
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        return frame.select(moment(frame, name, "UTC", None)).to_series()
    unit = None
    if kind.is_numeric() or _TIME_NAME.search(name):
        values = frame.select(number(frame, name, pl.Float64())).to_series()
        unit = _epoch(values) if _TIME_NAME.search(name) and values.null_count() == filled.null_count() else None
    if unit is not None:
        return frame.select(moment(frame, name, "UTC", unit)).to_series()
    if kind != pl.String or not filled.drop_nulls().str.contains(_DATE).mean():
        return None
    only = pl.DataFrame({name: filled})
    try:
        return only.select(moment(only, name, "UTC", None)).to_series()
    except pl.exceptions.ComputeError:  # Polars finds no format in it
        return None


def _candidates(frame: pl.DataFrame, name: str, filled: pl.Series) -> list[tuple[Kind, pl.Series]]:
    """Return what a column could be, the likeliest kind first."""
    found: list[tuple[Kind, pl.Series]] = []
    only = pl.DataFrame({name: filled})
    if frame.schema[name] == pl.Boolean:
        return [("boolean", frame[name])]
    found.append(("boolean", only.select(truth(pl.col(name))).to_series()))
    moments = _time(frame, name, filled)
    if moments is not None:
        found.append(("time", moments.cast(UTC_TIME)))
    found.append(("number", only.select(number(only, name, pl.Float64())).to_series()))
    return found


def read_column(frame: pl.DataFrame, name: str) -> tuple[Column, pl.Series]:
    """Return a column's kind and its values: Float64, Boolean, String, or Datetime in UTC; null where missing.

    Args:
        frame: The table as the file holds it.
        name: A column that is not nested.
    """
    filled = frame.select(plain(frame, name).alias(name)).to_series()
    there = len(filled) - filled.null_count()
    for kind, values in _candidates(frame, name, filled):
        read = len(values) - values.null_count()
        if there and read >= _READABLE * there and (kind != "boolean" or read == there):
            return Column(name, kind, values.null_count() > 0, there - read), values.alias(name)
    return Column(name, "category", filled.null_count() > 0), filled
