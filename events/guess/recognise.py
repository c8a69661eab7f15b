"""What the columns of an unknown file seem to be, from their names and their values.

A column is recognised by its name only if its values agree: a time must be readable as one, a number as one, and event
names must be words for events.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from events.contract import EVENT_NAMES, EVENT_SCHEMA, UTC_TIME
from events.guess.sample import Sample
from events.guess.times import TimeForm, time_form
from events.guess.vocabulary import COLUMN_NAMES, CONTENT_NAMES, EVENT_WORDS, TIME_OF_DAY_NAMES, comparable
from events.mapping import Csv
from events.sources.sniff import READABLE
from events.transform.numbers import number, text

_MOST_EVENTS = 40  # distinct values: a column with more does not hold event names
_LINE_COLUMNS = {"item_id", "quantity", "price", "amount", "position"}  # of an element, rather than of its record
_CLOCK = r"^\d{1,2}:\d{2}(:\d{2})?$|^\d{1,4}$"
DEFAULT_CSV = Csv()


@dataclass
class Guess:
    """What was recognised in a file.

    Attributes:
        columns: Contract column -> columns of the file, the first that holds a value counts.
        time: How event_time is read.
        time_of_day: The column with the time of the day, where event_time has the date only.
        events: The file's event name -> the contract's.
        unknown_events: Event names that are none of the contract's.
        content: Item column -> column of the file.
        order_amount: Columns with the amount of an order, in records with a list of lines.
        notes: What a person has to decide.
    """

    columns: dict[str, list[str]] = field(default_factory=dict)
    time: TimeForm | None = None
    time_of_day: str | None = None
    events: dict[str, str] = field(default_factory=dict)
    unknown_events: list[str] = field(default_factory=list)
    content: dict[str, str] = field(default_factory=dict)
    order_amount: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def used(self) -> set[str]:
        """The columns of the file that are recognised."""
        found = {name for names in self.columns.values() for name in names} | set(self.content.values())
        return found | set(self.order_amount) | ({self.time_of_day} if self.time_of_day else set())


def _named(sample: Sample, words: tuple[str, ...], *, of_lines: bool) -> list[str]:
    """Return the columns with one of these names, the surest first; of an address, the last one or two parts are it."""
    found = []
    for name in sample.frame.columns:
        parts = [part for part in re.split(r"[.\[\]]", name) if part]
        names = [comparable(parts[-1]), comparable("".join(parts[-2:]))]
        rank = min((words.index(one) for one in names if one in words), default=None)
        if rank is not None:
            inside = sample.each is not None and name.startswith(f"{sample.each}.")
            found.append((inside != of_lines, rank, len(parts), name))
    return [name for _, _, _, name in sorted(found)]


def numbers_of(sample: Sample, column: str) -> pl.Series:
    """Return a column as numbers, in the format of the file."""
    return sample.frame.select(number(sample.frame, column, pl.Float64(), sample.csv or DEFAULT_CSV)).to_series()


def filled(sample: Sample, column: str) -> pl.Series:
    """Return the values of a column that holds text, without blanks and empty ones."""
    return sample.frame.select(text(sample.frame, column)).to_series().drop_nulls()


def _event_names(sample: Sample, column: str) -> tuple[dict[str, str], list[str]]:
    """Return the known event names of a column and the others; nothing where it holds something else."""
    values = filled(sample, column).unique().sort().to_list()
    if len(values) > _MOST_EVENTS:
        return {}, []
    words = {word: name for name, known in EVENT_WORDS.items() for word in known}
    words |= {comparable(name): name for name in EVENT_NAMES}
    found = {value: words[comparable(value)] for value in values if comparable(value) in words}
    return found, [value for value in values if value not in found] if found else []


def _agrees(sample: Sample, name: str, column: str) -> bool:
    values = filled(sample, column)
    kind = EVENT_SCHEMA[name]
    if values.is_empty():
        return False
    if kind == UTC_TIME:
        return time_form(sample.frame[column]) is not None
    if name == "event_name":
        return bool(_event_names(sample, column)[0])
    return kind == pl.String or numbers_of(sample, column).drop_nulls().len() >= READABLE * values.len()


def _find_columns(sample: Sample) -> Guess:
    guess = Guess()
    for name, words in COLUMN_NAMES.items():
        candidates = _named(sample, words, of_lines=name in _LINE_COLUMNS)
        found = [c for c in candidates if c not in guess.used and _agrees(sample, name, c)]
        if name == "amount" and sample.each is not None:
            guess.order_amount = [c for c in found if not c.startswith(f"{sample.each}.")]
            found = [c for c in found if c not in guess.order_amount]
        if found:
            guess.columns[name] = found if sample.each is not None and name in _LINE_COLUMNS else found[:1]
    for name, words in CONTENT_NAMES.items():
        left = [c for c in _named(sample, words, of_lines=True) if c not in guess.used]
        if left:
            guess.content[name] = left[0]
    return guess


def _find_time(sample: Sample, guess: Guess) -> None:
    """Complete what is known about event_time: its format, a column with the time of the day, or one by its values."""
    columns = guess.columns
    if "event_time" not in columns:
        times = [c for c in sample.frame.columns if c not in guess.used and time_form(sample.frame[c]) is not None]
        times = [c for c in times if not numbers_of(sample, c).drop_nulls().len()]  # numbers are times by name only
        if len(times) == 1:
            columns["event_time"] = times
    if "event_time" not in columns:
        return
    (column,) = columns["event_time"]
    guess.time = time_form(sample.frame[column])
    clocks = [c for c in _named(sample, TIME_OF_DAY_NAMES, of_lines=False) if c not in guess.used]
    clocks = [c for c in clocks if filled(sample, c).str.contains(_CLOCK).all() and filled(sample, c).len()]
    if guess.time is not None and guess.time.date_only and clocks:
        guess.time_of_day = clocks[0]


def _drop_order_totals(sample: Sample, guess: Guess) -> None:
    """Take an amount for the order's, and leave it out, if all lines of an order repeat it."""
    has = guess.columns
    if sample.each is not None or not {"amount", "price", "order_id"} <= set(has):
        return
    frame = pl.DataFrame(
        {
            "order": sample.frame.select(text(sample.frame, has["order_id"][0])).to_series(),
            "amount": numbers_of(sample, has["amount"][0]),
            "line": numbers_of(sample, has["price"][0])
            * (numbers_of(sample, has["quantity"][0]).fill_null(1) if "quantity" in has else 1),
        }
    ).drop_nulls()
    several = frame.filter(pl.len().over("order") > 1)
    repeated = several.select((pl.col("amount").n_unique().over("order") == 1).mean()).item()
    equal = several.select(((pl.col("amount") - pl.col("line")).abs() < 0.011).mean()).item()
    if several.height and repeated > READABLE and equal < 1 - READABLE / 2:
        (column,) = has.pop("amount")
        guess.notes.append(f"{column} is the same on all lines of an order: it is the order's, and is not mapped")


def _repeats(sample: Sample, guess: Guess) -> Iterator[str]:
    """Yield what to decide about rows that repeat."""
    if "event_id" in guess.columns:
        return
    equal = sample.frame.height - sample.frame.n_unique() if sample.frame.width else 0
    if equal and sample.each is None:
        yield (
            f"{equal:,} of {sample.frame.height:,} rows equal an earlier row and count once; if each is an event of "
            f"its own, add identified_by with the columns that identify a row, and nth"
        )
    if not {"order_id", "item_id", "event_time"} <= set(guess.columns):
        return
    keys = [guess.columns[name][0] for name in ("order_id", "item_id")]
    time = guess.columns["event_time"][0]
    names = guess.columns.get("event_name", [None])[0]
    rows = sample.frame.select(*keys, time, *([names] if names else [])).drop_nulls()
    rows = rows.filter(pl.col(names).replace_strict(guess.events, default=None) == "purchase") if names else rows
    again = rows.group_by(keys).agg(pl.col(time).n_unique()).filter(pl.col(time) > 1).height
    if again:
        yield (
            f"{again:,} items of an order were bought at several times; if it was sent again, add "
            f"once_per: [order_id, item_id]"
        )


def guess_columns(sample: Sample) -> Guess:
    """Return what the columns of a sample seem to be."""
    guess = _find_columns(sample)
    _find_time(sample, guess)
    _drop_order_totals(sample, guess)
    if "event_name" in guess.columns:
        guess.events, guess.unknown_events = _event_names(sample, guess.columns["event_name"][0])
    guess.notes += _repeats(sample, guess)
    return guess
