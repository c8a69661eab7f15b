"""Columns of a source as moments in UTC."""

from datetime import UTC, datetime

import polars as pl

from events.contract import UTC_TIME
from shoplens.errors import MappingError

_EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}  # -> microseconds in one
_A_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# No shop's log is older or newer; a time outside is a number read in the wrong unit.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_LATEST_SECOND = int(LATEST.timestamp())
_DAY = 86_400
# The time of day before the offset keeps the "-01" of a bare date from being taken for one.
_DAY_OR_MONTH = r"^\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}(\D|$)"
_OFFSET = r"(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|z|UTC|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)$"


def day_or_month_first(frame: pl.DataFrame, column: str) -> str | None:
    """Return a value of a text column that begins with two numbers of which either may be the day."""
    matching = frame.filter(pl.col(column).str.contains(_DAY_OR_MONTH))
    return None if matching.is_empty() else str(matching[column][0])


def require_times(frame: pl.DataFrame, columns: list[str], time_format: str | None, where: str) -> None:
    """Raise a MappingError where a column holds no times, or times that can be read in two ways.

    Those are numbers without a unit, and dates that begin with the day or the month.

    Args:
        frame: The table.
        columns: Columns that the mapping reads as times.
        time_format: The mapping's.
        where: The mapping and the table, for the message.
    """
    for column in columns:
        kind = frame.schema[column]
        readable = kind in (pl.String, pl.Date, pl.Null) or isinstance(kind, pl.Datetime)
        if not readable and not (kind.is_numeric() and time_format in _EPOCHS):
            raise MappingError(
                f"{where}: time_format: a time must be text, a timestamp, or a number with one of "
                f"{', '.join(_EPOCHS)}; received {time_format!r} for column {column} of type {kind}. Name the unit, "
                f"or map another column"
            )
        value = day_or_month_first(frame, column) if kind == pl.String and time_format is None else None
        if value is not None:
            raise MappingError(
                f"{where}: time_format: column {column} must say whether the day or the month comes first; received "
                f'{value!r}. Set time_format, such as "%m/%d/%Y %H:%M" (month first) or "%d/%m/%Y %H:%M"'
            )


def _near(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return dates and timestamps, null where they are days off the range: Polars panics when it converts those."""
    unit = _A_SECOND[kind.time_unit or "us"] if isinstance(kind, pl.Datetime) else None
    low, high = (-1, _LATEST_SECOND // _DAY + 1) if unit is None else (-_DAY * unit, (_LATEST_SECOND + _DAY) * unit)
    return pl.when(value.to_physical().is_between(low, high)).then(value)


def _local(value: pl.Expr, time_zone: str) -> pl.Expr:
    naive = value.cast(pl.Datetime("us"))
    return naive.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _computed(frame: pl.DataFrame, value: pl.Expr) -> pl.Expr:
    """Return a value worked out, once: what stands several times in an expression is else worked out as often."""
    return pl.lit(frame.select(value.alias("value")).to_series())


def _from_text(frame: pl.DataFrame, value: pl.Expr, time_zone: str, time_format: str | None) -> pl.Expr:
    value = _computed(frame, value.str.strip_chars())
    if time_format is not None:
        parsed = _computed(frame, value.str.to_datetime(time_format, strict=False, time_unit="us", exact=True))
        # Polars turns text with an offset into UTC itself.
        with_offset = any(mark in time_format for mark in ("%z", "%:z", "%#z", "%+"))
        return parsed if with_offset else _local(_near(parsed, pl.Datetime("us")), time_zone)
    # Polars infers one kind of text a column: the offsets go first, so that text with and without may be mixed.
    offset = _computed(frame, value.str.extract(_OFFSET, 2))
    naive = value.str.replace(_OFFSET, "$1").str.to_datetime(None, strict=False, time_unit="us", exact=True)
    naive = _computed(frame, _near(_computed(frame, naive), pl.Datetime("us")))
    digits = offset.str.replace_all(r"\D", "")
    minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False).fill_null(0) * 60
    minutes += digits.str.slice(2, 2).cast(pl.Int64, strict=False).fill_null(0)
    ahead = pl.when(offset.str.starts_with("-")).then(-minutes).otherwise(minutes)
    absolute = (naive - pl.duration(minutes=ahead)).dt.replace_time_zone("UTC")
    return pl.when(offset.is_not_null()).then(absolute).otherwise(_local(naive, time_zone))


def moment(frame: pl.DataFrame, column: str, time_zone: str, time_format: str | None) -> pl.Expr:
    """Return a column of `frame` as UTC time, worked out; null where it is no time of the years 1970 to 2199."""
    kind = frame.schema[column]
    value = pl.col(column)
    if kind == pl.Null:
        return pl.lit(None, dtype=UTC_TIME)
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        near = _near(value, kind)
        aware = isinstance(kind, pl.Datetime) and kind.time_zone is not None
        result = near.dt.convert_time_zone("UTC") if aware else _local(near, time_zone)
    elif time_format in _EPOCHS:
        micro = (value.cast(pl.Float64, strict=False) * _EPOCHS[time_format]).round(0)
        fits = micro.is_between(0, _LATEST_SECOND * 1_000_000)
        result = pl.when(fits).then(micro).cast(pl.Int64, strict=False).cast(UTC_TIME)
    else:
        result = _from_text(frame, value, time_zone, time_format)
    result = _computed(frame, result.cast(UTC_TIME))
    in_range = result.is_between(pl.lit(EARLIEST, dtype=UTC_TIME), pl.lit(LATEST, dtype=UTC_TIME))
    return _computed(frame, pl.when(in_range).then(result))
