"""What the columns of a flat table are: a number, a boolean, a category or a time, read from text where it is text."""

import re

import polars as pl

from events.contract import UTC_TIME
from events.guess.times import date_formats
from events.transform.columns import number, text
from events.transform.times import moment
from shoplens.errors import SettingsError
from training.table.inputs import Column, Kind

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "?", "\\n")  # lower case; "\n" in two signs is MySQL's
TRUE, FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
# A column with one unreadable cell in twenty is a column of that kind with mistakes in it; with more it is text.
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
# IDs of things that many people share: rows are not grouped by these.
_THING_WORDS = {
    "product", "item", "sku", "article", "store", "shop", "category", "campaign", "brand", "vendor", "seller",
    "channel", "page", "region", "country", "zip", "postal", "post", "city", "state", "area", "coupon", "promo",
    "department", "type", "group", "segment", "status", "currency", "language", "variant", "experiment", "row",
    "line",
}  # fmt: skip
_FEWEST_PEOPLE = 20  # with fewer, the parts differ by who is in them
_REPEATED = 0.1  # of the rows share their ID with another row: fewer are mistakes
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


def _day_or_month_first(name: str, filled: pl.Series, dates: str | None) -> pl.Series | None:
    """Return a column of dates that begin with the day or the month; None if it does not hold such dates.

    Raises:
        SettingsError: the values do not prove which comes first, and `dates` does not decide it.
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
    except pl.exceptions.ComputeError:  # Polars finds no format in it
        return None


def _candidates(frame: pl.DataFrame, name: str, filled: pl.Series, dates: str | None) -> list[tuple[Kind, pl.Series]]:
    """Return what a column could be, the likeliest kind first."""
    found: list[tuple[Kind, pl.Series]] = []
    only = pl.DataFrame({name: filled})
    if frame.schema[name] == pl.Boolean:
        return [("boolean", frame[name])]
    found.append(("boolean", only.select(truth(pl.col(name))).to_series()))
    moments = _time(frame, name, filled, dates)
    if moments is not None:
        found.append(("time", moments.cast(UTC_TIME)))
    found.append(("number", only.select(number(only, name, pl.Float64())).to_series()))
    return found


def read_column(frame: pl.DataFrame, name: str, dates: str | None = None) -> tuple[Column, pl.Series]:
    """Return a column's kind and its values: Float64, Boolean, String, or Datetime in UTC; null where missing.

    `dates` is "day-first" or "month-first", for dates whose values do not prove it.

    Raises:
        SettingsError: dates can be read in two ways, and `dates` is None.
    """
    filled = frame.select(plain(frame, name).alias(name)).to_series()
    there = len(filled) - filled.null_count()
    for kind, values in _candidates(frame, name, filled, dates):
        read = len(values) - values.null_count()
        if there and read >= _READABLE * there and (kind != "boolean" or read == there):
            return Column(name, kind, values.null_count() > 0, there - read), values.alias(name)
    return Column(name, "category", filled.null_count() > 0), filled


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def person_column(columns: list[Column], typed: dict[str, pl.Series]) -> str | None:
    """Return the column whose IDs repeat, so that several rows are about one person; None if there is none.

    A column that names a person is preferred to another ID, and of several the one with the fewest values: a person has
    several sessions.
    """
    found: list[tuple[bool, int, str]] = []
    for column in columns:
        words = _words(column.name)
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
