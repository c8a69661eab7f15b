"""Convert a file to typed rows, and account for them: rows in = used + quarantined by reason + exact duplicates."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from events.contract import UTC_TIME
from events.guess.sample import sniff
from events.guess.times import date_formats
from events.sources.files import TEXT, kind_of
from events.sources.readers import read_table
from events.transform.columns import number, text
from events.transform.times import moment
from shoplens.errors import BrokenTableError, SettingsError, SourceError
from training.table.columns import Column, Kind

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "?", "\\n")  # lower case; MySQL writes "\n" as two characters
_TRUE, _FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
# With at most one unreadable cell in twenty, a column has this type and these cells are errors; with more, it is text.
_READABLE = 0.95
_TIME_NAME = re.compile(r"(^|[_\s])(time|timestamp|ts|date|datetime|at)$", re.IGNORECASE)
_DATE = r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+")
_ID_WORDS = {
    "id", "ids", "uuid", "guid", "key", "no", "nr", "num", "number", "code", "hash", "idx",
}  # fmt: skip
_PERSON_WORDS = {
    "user", "customer", "client", "visitor", "member", "household", "person", "shopper", "buyer", "account",
    "subscriber", "patient", "kunde", "kunden", "email", "mail", "phone", "cookie", "uid", "userid", "customerid",
    "visitorid", "clientid", "memberid",
}  # fmt: skip
# IDs of things that many people share; rows are not grouped by them.
_THING_WORDS = {
    "product", "item", "sku", "article", "store", "shop", "category", "campaign", "brand", "vendor", "seller",
    "channel", "page", "region", "country", "zip", "postal", "post", "city", "state", "area", "coupon", "promo",
    "department", "type", "group", "segment", "status", "currency", "language", "variant", "experiment", "row",
    "line",
}  # fmt: skip
_FEWEST_PEOPLE = 20  # with fewer, the parts would differ because of who is in them
_REPEATED = 0.1  # least share of rows whose ID repeats; with fewer, the repetitions are errors
_EPOCHS = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}  # -> units per second
_EPOCH_SECONDS = (946_684_800, 4_102_444_800)  # 2000 to 2100; smaller numbers are amounts or durations


def is_nested(kind: pl.DataType) -> bool:
    """Return whether a column has a type that no model supports: lists, records, bytes, durations."""
    return kind.is_nested() or kind in (pl.Binary, pl.Duration, pl.Time, pl.Object)


def plain(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Return a column as stripped text; words for missing values become null."""
    value = text(frame, name)
    return pl.when(~value.str.to_lowercase().is_in(MISSING)).then(value)


def _truth(value: pl.Expr, true: tuple[str, ...], false: tuple[str, ...]) -> pl.Expr:
    """Parse text as booleans; other values become null."""
    lower = value.str.to_lowercase()
    return pl.when(lower.is_in(true)).then(True).when(lower.is_in(false)).then(False)


def _epoch(values: pl.Series) -> str | None:
    """Return the unit in which the values are times of this century, if there is one."""
    low, high = values.min(), values.max()
    for unit, scale in _EPOCHS.items():
        if low is not None and _EPOCH_SECONDS[0] * scale <= low and high <= _EPOCH_SECONDS[1] * scale:  # type: ignore[operator]
            return unit
    return None


def _day_or_month_first(name: str, filled: pl.Series, dates: str | None) -> pl.Series | None:
    """Parse a column of dates that begin with the day or the month; None if it does not hold such dates.

    Raises:
        SettingsError: the values do not prove which comes first, and `dates` is None.
    """
    formats = date_formats(filled)
    if not formats:
        return None
    wanted = {"day-first": "%d", "month-first": "%m"}
    chosen = formats if len(formats) == 1 else [form for form in formats if dates and form.startswith(wanted[dates])]
    if not chosen:
        raise SettingsError(
            f"--dates: column {name} must be read with the day or with the month first; no value such as "
            f"{filled.drop_nulls()[0]!r} has a number above 12 that decides it. Pass --dates day-first or "
            f"--dates month-first"
        )
    return filled.str.strip_chars().str.to_datetime(chosen[0], strict=False, time_unit="us").dt.replace_time_zone("UTC")


def _time(frame: pl.DataFrame, name: str, filled: pl.Series, dates: str | None) -> pl.Series | None:
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
    moments = _day_or_month_first(name, filled, dates)
    if moments is not None:
        return moments
    only = pl.DataFrame({name: filled})
    try:
        return only.select(moment(only, name, "UTC", None)).to_series()
    except pl.exceptions.ComputeError:  # Polars cannot infer a format
        return None


def read_column(frame: pl.DataFrame, name: str, dates: str | None = None) -> tuple[Column, pl.Series]:
    """Return a column's kind and its values: Float64, Boolean, String, or Datetime in UTC; null where missing.

    `dates` is "day-first" or "month-first", for ambiguous dates.

    Raises:
        SettingsError: dates can be read in two ways, and `dates` is None.
    """
    filled = frame.select(plain(frame, name).alias(name)).to_series()
    there, only = len(filled) - filled.null_count(), pl.DataFrame({name: filled})
    if frame.schema[name] == pl.Boolean:
        candidates: dict[Kind, pl.Series | None] = {"boolean": frame[name]}
    else:  # most likely kind first
        candidates = {
            "boolean": only.select(_truth(pl.col(name), _TRUE, _FALSE)).to_series(),
            "time": _time(frame, name, filled, dates),
            "number": only.select(number(only, name, pl.Float64())).to_series(),
        }
    for kind, values in candidates.items():
        read = 0 if values is None else len(values) - values.null_count()
        if values is not None and there and read >= _READABLE * there and (kind != "boolean" or read == there):
            typed = values.cast(UTC_TIME) if kind == "time" else values
            return Column(name, kind, typed.null_count() > 0, there - read), typed.alias(name)
    return Column(name, "category", filled.null_count() > 0), filled


_RULE = "must hold two values: true and false, 1 and 0, or yes and no"
# A few unreadable cells are errors and are quarantined; with more, this is not a boolean column.
_UNREADABLE = 0.05
LEAST = 20  # rows per value; each of the three splits and the bootstrap need some
_SHOWN = 6


def read_target(frame: pl.DataFrame, target: str) -> tuple[pl.Series, pl.Series]:
    """Return the labels, (rows,), and the reason, (rows,), for rows without one: missing or unreadable.

    Raises:
        SettingsError: the table has no such column.
        BrokenTableError: the column does not have two values, or too few rows have one of them.
    """
    if target not in frame.columns:
        raise SettingsError(
            f"--target: must be a column of the table; received {target!r}. It has {', '.join(frame.columns)}"
        )
    if is_nested(frame.schema[target]):
        raise BrokenTableError(f"column {target}: {_RULE}; its type is {frame.schema[target]}. Choose another --target")
    value = frame.select(plain(frame, target).alias("value")).to_series()
    label = pl.select(_truth(pl.lit(value), (*_TRUE, "1", "1.0"), (*_FALSE, "0", "0.0"))).to_series()
    known, read = len(value) - value.null_count(), len(label) - label.null_count()
    if read < (1 - _UNREADABLE) * known or read == 0:
        seen = value.drop_nulls().value_counts(sort=True)
        shown = ", ".join(repr(one) for one in seen[:_SHOWN, 0].to_list()) or "nothing"
        more = f" and {len(seen) - _SHOWN:,} more" if len(seen) > _SHOWN else ""
        raise BrokenTableError(
            f"column {target}: {_RULE}; found {shown}{more}. Recode it to two values, or choose another --target"
        )
    positives = int(label.sum())
    negatives = read - positives
    if min(positives, negatives) < LEAST:
        raise BrokenTableError(
            f"column {target}: must have at least {LEAST} rows per value; found {positives} true and {negatives} "
            f"false. Add rows, or choose another --target"
        )
    reason = pl.select(
        pl.when(value.is_null())
        .then(pl.lit(f"{target}: missing"))
        .when(label.is_null())
        .then(pl.lit(f"{target}: unreadable"))
    ).to_series()
    return label, reason


ROW, REASON = "shoplens_row", "shoplens_reason"
NO_GROUP = "none"
# A time column may be missing in one row in a hundred; if it is missing more often (such as the time of purchase), it
# is not the time of the row.
_TIMED = 0.99


@dataclass(frozen=True)
class Account:
    """The account of the rows."""

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
        copy_of: (rows,) group numbers; exact duplicates have the same number.
        columns: Columns of the frame, in the file's order.
        time: The column that orders the rows, if any.
        person: The column that identifies people with several rows, if any.
        dropped: Column -> why it is not an input.
        quarantine: Rows as in the file, with their number in the file (from 1) and the reason.
        doubles: Group numbers of all rows with a target, including copies, as in a split without deduplication.
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
    """Read a file as a table, detecting the dialect of text files.

    Raises:
        SourceError: the file is missing, unreadable or empty, or its type is unknown.
    """
    if not path.is_file():
        raise SourceError(f"--data: {path}: no such file")
    kind = kind_of(path)
    if kind is None:
        raise SourceError(f"--data: {path}: unknown kind of file; must be .csv, .csv.gz, .tsv, .parquet or .jsonl")
    frame = read_table(path, sniff(path).csv) if kind in TEXT else read_table(path)
    if frame.is_empty():
        raise SourceError(f"--data: {path}: must have at least one row; it has none")
    return frame


def _time_column(columns: list[Column], typed: dict[str, pl.Series], asked: str | None) -> str | None:
    """Return the column that orders the rows: the requested one, else the first nearly complete time column."""
    times = [one.name for one in columns if one.kind == "time"]
    if asked is not None and asked not in times:
        raise SettingsError(
            f"--time: must be a column of times; received {asked!r}. Times of this table: {', '.join(times) or 'none'}"
        )
    known = [name for name in times if typed[name].is_not_null().mean() >= _TIMED]  # type: ignore[operator]
    return asked if asked is not None else next(iter(known), None)


def groups_of(frame: pl.DataFrame) -> NDArray[np.int64]:
    """Return (rows,): for each row, the index of the first row that equals it in every column."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]  # Polars cannot group by these
    plain = frame.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)
    first = pl.col(ROW).first().over(plain.columns)
    return plain.with_row_index(ROW).select(first.cast(pl.Int64)).to_series().to_numpy()


def _person_column(columns: list[Column], typed: dict[str, pl.Series], asked: str | None) -> str | None:
    """Return the requested column, else an ID column whose values repeat, because a person can have several rows.

    Columns named like a person's ID are preferred, then those with the fewest distinct values.
    """
    if asked is not None and asked != NO_GROUP and asked not in typed:
        raise SettingsError(
            f"--group: must be a column of the table, or {NO_GROUP}; received {asked!r}. It has {', '.join(typed)}"
        )
    if asked is not None:
        return None if asked == NO_GROUP else asked
    found: list[tuple[bool, int, str]] = []
    for column in columns:
        words = [word.lower() for word in _WORD.findall(column.name)]
        names_person = bool(set(words) & _PERSON_WORDS)
        is_id = bool(words) and (words[-1] in _ID_WORDS or (names_person and words[-1] in _PERSON_WORDS))
        if column.kind not in ("category", "number") or not is_id or (set(words) & _THING_WORDS and not names_person):
            continue
        values = typed[column.name].drop_nulls()
        distinct = values.n_unique()
        repeated = values.is_duplicated().mean() if len(values) else 0.0
        if distinct >= _FEWEST_PEOPLE and repeated >= _REPEATED:  # type: ignore[operator]  # a float
            found.append((not names_person, distinct, column.name))
    return min(found)[2] if found else None


def clean(
    frame: pl.DataFrame,
    target: str,
    time: str | None = None,
    keep_duplicates: bool = False,
    *,
    group: str | None = None,
    dates: str | None = None,
) -> Cleaned:
    """Determine the columns' types, and separate the rows to use from quarantined rows and duplicates.

    See `training.table.run.Request` for the arguments.

    Raises:
        SettingsError: a named column is missing or not a time, or dates are ambiguous.
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
