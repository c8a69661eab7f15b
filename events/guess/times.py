"""Detect the time format of a column."""

from dataclasses import dataclass
from itertools import product

import polars as pl

from events.guess.sample import READABLE
from events.guess.words import comparable, words
from events.transform.times import EARLIEST, EPOCHS, LATEST, moment

_DATE = r"^\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})(?:\D|$)"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_WITH_MONTH = ("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d-%b-%y", "%d %B %Y", "%B %d, %Y")
_EXCEL = (36_526, 73_050)  # 2000 to 2099, in days from 1899-12-30
_DAY_NUMBERS = (0, 5_000)


@dataclass(frozen=True)
class TimeForm:
    """The time format of a column.

    Attributes:
        formats: Values for `time_format` in a mapping: none for ISO 8601 and timestamps, two if the values are
            ambiguous.
        date_only: Whether there is no time of day.
        day_numbers: Whether days are numbered from a start date that the file does not contain.
        comment: What the user should check.
    """

    formats: tuple[str, ...] = ()
    date_only: bool = False
    day_numbers: bool = False
    comment: str = ""


def date_formats(values: pl.Series) -> list[str]:
    """Return the strptime formats of dates that begin with the day or the month; empty for other values.

    One format if a number above 12 proves which comes first, both if nothing does.
    """
    filled = values.drop_nulls().str.strip_chars()
    filled = filled.filter(filled != "")
    if filled.str.contains(_DATE).sum() < max(1, READABLE * len(filled)):
        return []
    mark = filled.str.extract(r"^\d{1,2}([/.-])", 1).mode()[0]
    year = "%Y" if filled.str.contains(r"^\d{1,2}\D\d{1,2}\D\d{4}").sum() > 0.5 * len(filled) else "%y"
    orders = (mark.join(order) for order in (("%d", "%m", year), ("%m", "%d", year)))
    forms = [order + clock for order, clock in product(orders, _CLOCKS)]
    unread = {form: filled.str.to_datetime(form, strict=False, time_unit="us").null_count() for form in forms}
    least = min(unread.values())
    return [form for form in forms if unread[form] == least] if least <= (1 - READABLE) * len(filled) else []


def _numeric_form(name: str, numbers: pl.Series) -> TimeForm | None:
    """Return the time format of numbers; small numbers are times only if the column's name suggests it."""
    low, high = EARLIEST.timestamp() * 1_000_000, LATEST.timestamp() * 1_000_000
    counts = {unit: (numbers * micro).is_between(low, high).sum() for unit, micro in EPOCHS.items()}
    if sum(counts.values()) >= READABLE * len(numbers):
        units = [unit for unit, count in counts.items() if count]
        return TimeForm((units[0],)) if len(units) == 1 else TimeForm(("epoch",), comment="the unit differs by row")
    if comparable(name) in words()["day_number"]:
        return TimeForm(date_only=True, day_numbers=True) if numbers.is_between(*_DAY_NUMBERS).all() else None
    if not numbers.is_between(*_EXCEL).all():
        return None
    return TimeForm(("excel",), (numbers == numbers.floor()).all(), comment="days as Excel counts them: is this right?")


def time_form(values: pl.Series) -> TimeForm | None:
    """Return the time format of a column, ignoring empty values; None if it does not hold times."""
    if values.dtype in (pl.Datetime, pl.Date):
        return TimeForm(date_only=values.dtype == pl.Date)
    texts = values.cast(pl.String).str.strip_chars().alias("x").to_frame().filter(pl.col("x") != "")
    filled = texts.to_series()
    if filled.is_empty():
        return None

    def is_read(form: str | None) -> bool:
        read = texts.select(moment(texts, "x", "UTC", form)).to_series()
        return read.count() >= READABLE * len(filled)

    formats = date_formats(filled)
    if formats:
        return TimeForm(tuple(formats), date_only=not any(mark in formats[0] for mark in ("%H", "%I")))
    if is_read(None):
        return TimeForm(date_only=bool(filled.str.contains(r"^(\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{8})$").all()))
    numbers = filled.cast(pl.Float64, strict=False).drop_nulls()
    if len(numbers) >= READABLE * len(filled):
        return _numeric_form(values.name, numbers)
    named = ((day + clock, not clock) for day, clock in product(_WITH_MONTH, _CLOCKS))
    return next((TimeForm((form,), date_only) for form, date_only in named if is_read(form)), None)
