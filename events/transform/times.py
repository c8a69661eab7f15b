"""Parse source columns as UTC times.

Each row is parsed on its own, so neighbouring rows never affect whether a value is a time. `read_times` is the only
parser: `--guess` and flat tables use it too.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime

import polars as pl

from events.account import Faults
from events.contract import UTC_TIME
from events.mapping import Category, DateAndTime, columns_of
from events.transform.columns import held, text
from shoplens.errors import MappingError

# No shop's log is older or newer; a time outside this range has the wrong unit, or is a program's default.
EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
NOT_A_TIME, SKIPPED_HOUR, IMPLAUSIBLE = "not_a_time", "skipped_hour", "implausible"
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}  # -> microseconds per unit
_NUMERIC = (*EPOCHS, "epoch", "excel")
_HOURS = {"h": 1, "d": 24, "w": 168}
_DAY = 86_400_000_000  # microseconds
_FIRST, _LAST = -719_000 * _DAY, 1_400_000 * _DAY  # the years 1 to 5803; Polars' conversions panic far beyond them
_WITH_OFFSET = re.compile(r"%(?:[:#]?z|[+])")
_DAY_OR_MONTH = r"^\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}(\D|$)"
_OFFSET = r"\s*(Z|z|UTC|GMT|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?$"
_FRACTION = r"(?:[.,](\d{1,9}))?"
# year, month, day, hour, minute, second, fraction, offset; the forms of ISO 8601 that logs have
_ISO = (
    rf"^(\d{{4}})[-/](\d{{1,2}})[-/](\d{{1,2}})(?:[Tt ]+(\d{{1,2}}):?(\d{{2}})(?::?(\d{{2}}){_FRACTION})?)?{_OFFSET}",
    rf"^(\d{{4}})(\d{{2}})(\d{{2}})(?:[Tt ]+(\d{{2}}):?(\d{{2}})(?::?(\d{{2}}){_FRACTION})?)?{_OFFSET}",
    rf"^(\d{{4}})(\d{{2}})(\d{{2}})(\d{{2}})(\d{{2}})(\d{{2}}){_FRACTION}{_OFFSET}",
)
# Fast path for the formats of most logs; _ISO reads the same rows, but slower.
_USUAL = (("%Y-%m-%d %H:%M:%S%.f", False), ("%Y-%m-%dT%H:%M:%S%.fZ", True), ("%Y-%m-%d %H:%M:%S UTC", True))


def require_times(frame: pl.DataFrame, columns: Sequence[str], formats: Sequence[str], where: str) -> None:
    """Raise a MappingError if a column does not hold times, or holds ambiguous times.

    Numbers without a unit are ambiguous, as are dates that may begin with the day or the month. `where` names the
    mapping and table for messages.
    """
    for column in columns:
        kind = frame.schema[column]
        readable = kind in (pl.String, pl.Date, pl.Null) or isinstance(kind, pl.Datetime)
        if not readable and not (kind.is_numeric() and set(formats) & set(_NUMERIC)):
            raise MappingError(
                f"{where}: time_format: a time must be text, a timestamp, or a number with one of "
                f"{', '.join(_NUMERIC)}; received {' or '.join(formats) or None} for column {column} of type {kind}. "
                f"Name the unit, or map another column"
            )
        if kind != pl.String or formats:
            continue
        values = frame[column].drop_nulls()
        either = values.filter(values.str.contains(_DAY_OR_MONTH))
        if not either.is_empty() and 2 * either.len() >= values.len():
            raise MappingError(
                f"{where}: time_format must state whether the day or the month comes first in column {column}; "
                f'received {either[0]!r}. Set time_format, such as "%m/%d/%Y %H:%M" (month first) or "%d/%m/%Y %H:%M"'
            )


def _iso(values: pl.Series) -> pl.DataFrame:
    """Parse ISO 8601 texts, with or without an offset."""
    names = ("year", "month", "day", "hour", "minute", "second", "fraction", "offset")
    groups = [pl.col("value").str.extract_groups(form).struct.rename_fields(names) for form in _ISO]
    fields = [pl.coalesce(group.struct.field(name) for group in groups).alias(name) for name in names]
    frame = values.alias("value").to_frame().select(fields)
    day = pl.concat_str("year", "month", "day", separator="-").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    hour, minute, second = (pl.col(name).cast(pl.Int64, strict=False).fill_null(0) for name in names[3:6])
    micro = pl.col("fraction").str.pad_end(9, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
    time = day * _DAY + (hour * 3600 + minute * 60 + second) * 1_000_000 + micro
    digits = pl.col("offset").str.replace_all(r"\D", "")
    hours, minutes = (digits.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0) for at in (0, 2))
    ahead = (hours * 60 + minutes) * 60_000_000
    ahead = pl.when(pl.col("offset").str.starts_with("-")).then(-ahead).otherwise(ahead)
    valid = (hour < 24) & (minute < 60) & (second < 60)
    return frame.select(micro=pl.when(valid).then(time - ahead), aware=pl.col("offset").is_not_null())


def _found(micro: pl.Series, *, aware: bool) -> pl.DataFrame:
    """Return `micro` (microseconds since 1970) and `aware` (whether it is UTC or in the source's time zone)."""
    return micro.alias("micro").to_frame().with_columns(pl.lit(aware).alias("aware"))


def _strptime(values: pl.Series, form: str, *, aware: bool) -> pl.DataFrame:
    repeated = "%S" not in form and "%T" not in form  # a cache is not worth it for times with seconds
    parsed = values.str.to_datetime(form, strict=False, time_unit="us", exact=True, cache=repeated)
    return _found(parsed.to_physical(), aware=aware)


def _numeric(values: pl.Series, form: str) -> pl.DataFrame:
    """Parse numbers: units since 1970, or Excel's days since 1899-12-30."""
    value = pl.col("value").cast(pl.Float64, strict=False)
    if form == "epoch":  # seconds have 10 digits from 2001 to 2286
        size = value.abs()
        micro = value * pl.when(size < 1e11).then(1_000_000).when(size < 1e14).then(1_000).otherwise(1)
        micro = pl.when(size >= 1e17).then(value / 1_000).otherwise(micro)  # nanoseconds
    elif form == "excel":  # round to seconds as Excel does, because a float of days is off by microseconds
        micro = ((value - 25_569) * 86_400).round(0) * 1_000_000
    else:
        micro = value * EPOCHS[form]
    near = pl.when(micro.is_finite()).then(micro.round(0).clip(_FIRST, _LAST)).cast(pl.Int64, strict=False)
    return _found(values.alias("value").to_frame().select(near).to_series(), aware=form != "excel")


def _from_text(values: pl.Series, formats: Sequence[str]) -> pl.DataFrame:
    """Return `micro` and `aware` of texts or numbers, parsing each row with the first format that fits."""
    done = _found(pl.repeat(None, len(values), dtype=pl.Int64, eager=True), aware=False)
    left = values.is_not_null().arg_true()
    declared = [(form, _WITH_OFFSET.search(form) is not None) for form in formats]
    for form, aware in declared or (*_USUAL, ("iso", False)):
        if left.is_empty():
            break
        part = values if left.len() == len(values) else values.gather(left)
        if form == "iso":
            found = _iso(part)
        else:
            found = _numeric(part, form) if form in _NUMERIC else _strptime(part, form, aware=aware)
        if left.len() == len(values):
            done = found
        else:
            done = done.with_columns(done[name].scatter(left, found[name]) for name in ("micro", "aware"))
        left = left.filter(found["micro"].is_null())
    return done


def _parse(frame: pl.DataFrame, column: str, formats: Sequence[str]) -> pl.DataFrame:
    """Return `micro` and `aware` of a column."""
    kind, values = frame.schema[column], frame[column]
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        aware = isinstance(kind, pl.Datetime) and kind.time_zone is not None
        if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
            return _found(values.to_physical() // 1_000, aware=aware)
        scale = (1 if kind.time_unit == "us" else 1_000) if isinstance(kind, pl.Datetime) else _DAY
        return _found(values.to_physical().cast(pl.Int64).clip(_FIRST // scale, _LAST // scale) * scale, aware=aware)
    if kind.is_numeric():
        return _from_text(values, [form for form in formats if form in _NUMERIC])
    return _from_text(frame.select(text(frame, column)).to_series(), formats)


def _time_of_day(frame: pl.DataFrame, column: str) -> pl.Series:
    """Parse HH:MM, HH:MM:SS, 1631, 163159, or a fraction of a day as microseconds since midnight."""
    value = text(frame, column).str.replace(r"^(\d+)\.0+$", "$1")
    digits = pl.when(value.str.len_chars() > 4).then(value.str.zfill(6)).otherwise(value.str.zfill(4))
    written = digits.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "$1:$2:$3").str.replace(r"^(\d\d)(\d\d)$", "$1:$2")
    clock = pl.when(value.str.contains(r"^\d+$")).then(written).otherwise(value)
    parts = clock.str.extract_groups(r"^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*([AaPp])?[Mm]?$").struct
    hour, minute, second = (parts.field(name).cast(pl.Int64, strict=False) for name in ("1", "2", "3"))
    half, second = parts.field("4").str.to_lowercase(), second.fill_null(0)
    hour = pl.when(half == "p").then(hour % 12 + 12).when(half == "a").then(hour % 12).otherwise(hour)
    seconds = pl.when((hour < 24) & (minute < 60) & (second < 60)).then(hour * 3600 + minute * 60 + second)
    fraction = pl.when(value.str.contains(r"^0?\.\d+$")).then(value.cast(pl.Float64, strict=False) * 86_400)
    return frame.select(pl.coalesce(fraction.round(0).cast(pl.Int64), seconds) * 1_000_000).to_series()


def _combined(frame: pl.DataFrame, source: DateAndTime, formats: Sequence[str]) -> pl.DataFrame:
    """Return `micro` and `aware` of a date and a time column, or of numbers that count from a start date."""
    dates, column = held(frame, source.date)
    if source.start is None:
        found = _parse(dates, column, formats)
    else:
        count = text(dates, column).cast(pl.Float64, strict=False) - source.first
        start = (source.start - date(1970, 1, 1)).days * _DAY
        micro = (count * _HOURS[source.unit] * 3_600_000_000).round(0).clip(_FIRST, _LAST).cast(pl.Int64, strict=False)
        found = _found(dates.select(micro + start).to_series(), aware=False)
    if source.time is None:
        return found
    return found.with_columns(pl.col("micro") + _time_of_day(*held(frame, source.time)))


def read_times(
    frame: pl.DataFrame,
    source: Category | DateAndTime,
    time_zone: str,
    formats: Sequence[str] = (),
    earliest: datetime = EARLIEST,
) -> pl.DataFrame:
    """Return a source's `time` (UTC) and `fault` (why a value is not a time; null if the value is empty).

    Args:
        frame: The table.
        source: Its column, alternatives, or a date and a time; at least one alternative is a column of the table.
        time_zone: Time zone of times without an offset; an ambiguous hour is the first of the two.
        formats: strptime formats, or iso, excel, epoch (unit per row), epoch_s, epoch_ms, epoch_us; empty for ISO.
        earliest: Earlier times are implausible.
    """
    if isinstance(source, DateAndTime):
        found = _combined(frame, source, formats)
        parts: list[Category] = [source.date] if source.time is None else [source.date, source.time]
    else:
        found, parts = _parse(*held(frame, source), formats), [source]
    near = pl.col("micro").clip(_FIRST, _LAST)
    local = near.cast(pl.Datetime("us")).dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    moments = pl.when("aware").then(near.cast(UTC_TIME)).otherwise(local.dt.convert_time_zone("UTC"))
    time = found.select(moments.alias("time")).to_series()
    plausible = time.is_between(earliest, LATEST)
    if time.null_count() == 0 and plausible.all():
        return time.to_frame().with_columns(pl.lit(None, dtype=pl.String).alias("fault"))
    present = [[name for name in columns_of(part) if name in frame.columns] for part in parts]
    blank = [pl.all_horizontal(text(frame, name).is_null() for name in names) for names in present]
    empty = frame.select(pl.any_horizontal(blank)).to_series()
    return found.select(
        pl.when(plausible).then(time).alias("time"),
        pl.when(empty)
        .then(None)
        .when(pl.col("micro").is_null())
        .then(pl.lit(NOT_A_TIME))
        .when(time.is_null())
        .then(pl.lit(SKIPPED_HOUR))
        .when(~plausible)
        .then(pl.lit(IMPLAUSIBLE))
        .alias("fault"),
    )


def faults_of(name: str, fault: pl.Series) -> Faults:
    """Return the faults of a time column from the `fault` of `read_times`."""
    return [(f"{name}_{kind}", fault == kind) for kind in fault.drop_nulls().unique().sort()]


def moment(frame: pl.DataFrame, column: str, time_zone: str, time_format: str | None) -> pl.Series:
    """Return a column as UTC times; implausible values become null."""
    return read_times(frame, column, time_zone, () if time_format is None else (time_format,))["time"]
