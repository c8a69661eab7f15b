"""In which format the values of a column are times."""

from dataclasses import dataclass

import polars as pl

from events.guess.vocabulary import comparable
from events.sources.sniff import READABLE
from events.transform.times import EARLIEST, LATEST, moment

_DATE = r"^\s*\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})(?:\D|$)"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_WITH_MONTH = ("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d-%b-%y", "%d %B %Y", "%B %d, %Y")
_EPOCHS = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}  # -> units in a second
_EXCEL = (36_526, 73_050)  # 2000 to 2099, in days from 1899-12-30
_DAY_NUMBERS = (0, 5_000)


@dataclass(frozen=True)
class TimeForm:
    """How a column is read as times.

    Attributes:
        formats: As `time_format` of a mapping has them: none for ISO 8601 and timestamps; two if the values do not
            prove which of them is right.
        date_only: There is no time of the day.
        day_numbers: Days are numbered from a start date that the file does not have.
        comment: What a person should check.
    """

    formats: tuple[str, ...] = ()
    date_only: bool = False
    day_numbers: bool = False
    comment: str = ""


def date_formats(values: pl.Series) -> list[str]:
    """Return the formats (strptime) of dates that begin with the day or the month.

    Returns:
        None where the values are not such dates; one where the values prove which comes first, because a number is
        above 12; both where nothing proves it.
    """
    filled = values.drop_nulls().str.strip_chars()
    filled = filled.filter(filled != "")
    if filled.is_empty() or filled.str.contains(_DATE).mean() < READABLE:  # type: ignore[operator]  # a float
        return []
    mark = filled.str.extract(r"^\d{1,2}([/.-])", 1).mode()[0]
    year = "%Y" if filled.str.contains(r"^\d{1,2}\D\d{1,2}\D\d{4}").mean() > 0.5 else "%y"  # type: ignore[operator]
    shares: dict[str, float] = {}
    for first, second in (("%d", "%m"), ("%m", "%d")):
        for clock in _CLOCKS:
            form = f"{first}{mark}{second}{mark}{year}{clock}"
            read = filled.str.to_datetime(form, strict=False, time_unit="us", exact=True)
            shares[form] = 1 - read.null_count() / len(filled)
    best = max(shares.values())
    return [form for form, share in shares.items() if share == best] if best >= READABLE else []


def _numeric_form(name: str, numbers: pl.Series) -> TimeForm | None:
    """Return how numbers are times; a small number is one only in a column that is named so."""
    low, high = EARLIEST.timestamp(), LATEST.timestamp()
    shares = {unit: float(numbers.is_between(low * n, high * n).mean() or 0) for unit, n in _EPOCHS.items()}  # type: ignore[arg-type]
    if sum(shares.values()) >= READABLE:
        units = [unit for unit, share in shares.items() if share > 0]
        return TimeForm((units[0],)) if len(units) == 1 else TimeForm(("epoch",), comment="the unit differs by row")
    if comparable(name) in ("day", "tag", "daynumber", "dayno"):
        return TimeForm(date_only=True, day_numbers=True) if numbers.is_between(*_DAY_NUMBERS).all() else None
    if numbers.is_between(*_EXCEL).mean() == 1:
        return TimeForm(
            ("excel",), (numbers == numbers.floor()).all(), comment="days as Excel counts them: is this right?"
        )
    return None


def time_form(values: pl.Series) -> TimeForm | None:
    """Return how a column is read as times; None if it does not hold times. Empty values do not matter."""
    if isinstance(values.dtype, pl.Datetime) or values.dtype == pl.Date:
        return TimeForm(date_only=values.dtype == pl.Date)
    texts = values.cast(pl.String).str.strip_chars().alias("x").to_frame().filter(pl.col("x") != "")
    filled = texts.to_series()
    if filled.is_empty():
        return None

    def share(form: str | None) -> float:
        read = texts.select(moment(texts, "x", "UTC", form)).to_series()
        return 1 - read.null_count() / len(filled)

    formats = date_formats(filled)
    if formats:
        return TimeForm(tuple(formats), date_only=not any(mark in formats[0] for mark in ("%H", "%I")))
    if share(None) >= READABLE:
        return TimeForm(date_only=bool(filled.str.contains(r"^(\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{8})$").all()))
    numbers = filled.cast(pl.Float64, strict=False).drop_nulls()
    if len(numbers) >= READABLE * len(filled):
        return _numeric_form(values.name, numbers)
    for day in _WITH_MONTH:
        for clock in _CLOCKS:
            if share(day + clock) >= READABLE:
                return TimeForm((day + clock,), date_only=not clock)
    return None
