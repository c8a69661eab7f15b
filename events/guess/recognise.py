"""Recognise the columns of an unknown file by their names and values.

A column's name counts only if its values agree: times must parse as times, numbers as numbers, and event names must be
known words for events.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from events.contract import EVENT_SCHEMA, UTC_TIME
from events.guess.sample import READABLE, Sample
from events.guess.times import TimeForm, time_form
from events.guess.words import comparable, words

_MOST_EVENTS = 40  # distinct values; a column with more does not hold event names
_LINE_COLUMNS = {"item_id", "quantity", "price", "amount", "position"}  # of an element, rather than of its record
_CLOCK = r"^\d{1,2}:\d{2}(:\d{2})?$|^\d{1,4}$"


@dataclass
class Guess:
    """What was recognised in a file.

    Attributes:
        columns: Contract column -> columns of the file; the first one with a value wins.
        time: Format of event_time.
        time_of_day: Column with the time of day, if event_time has only the date.
        events: Event name in the file -> event name in the contract.
        unknown_events: Event names that match none of the contract's.
        content: Item column -> column of the file.
        order_amount: Columns with an order's amount, in records with a list of lines.
        notes: Decisions left to the user.
    """

    columns: dict[str, list[str]] = field(default_factory=dict)
    time: TimeForm = field(default_factory=TimeForm)
    time_of_day: str | None = None
    events: dict[str, str] = field(default_factory=dict)
    unknown_events: list[str] = field(default_factory=list)
    content: dict[str, str] = field(default_factory=dict)
    order_amount: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> dict[str, str]:
        """Contract column -> the first matching column of the file."""
        return {name: columns[0] for name, columns in self.columns.items()}

    @property
    def used(self) -> set[str | None]:
        """The recognised columns of the file."""
        columns = {name for names in self.columns.values() for name in names}
        return columns | {*self.content.values(), *self.order_amount, self.time_of_day}


def _named(sample: Sample, guess: Guess, wanted: Sequence[str], *, of_lines: bool = False) -> list[str]:
    """Return the unused columns with a wanted name, best first; addresses match by their last one or two parts."""
    found = []
    for name in set(sample.frame.columns) - guess.used:
        parts = [part for part in re.split(r"[.\[\]]", name) if part]
        ranks = [wanted.index(one) for n in (1, 2) if (one := comparable("".join(parts[-n:]))) in wanted]
        if ranks:
            inside = sample.each is not None and name.startswith(f"{sample.each}.")
            found.append((inside != of_lines, min(ranks), len(parts), name))
    return [name for _, _, _, name in sorted(found)]


def _event_names(sample: Sample, column: str) -> tuple[dict[str, str], list[str]]:
    """Return a column's known event names and its other values; both empty if it does not hold event names."""
    values = sample.filled(column).unique().sort().to_list()
    if len(values) > _MOST_EVENTS:
        return {}, []
    known = {word: name for name, spelled in words()["events"].items() for word in spelled}
    found = {value: known[comparable(value)] for value in values if comparable(value) in known}
    return found, [value for value in values if value not in found] if found else []


def _agrees(sample: Sample, name: str, column: str) -> bool:
    """Return whether a column's values are valid for a contract column."""
    count = len(sample.filled(column))
    if not count or EVENT_SCHEMA[name] == UTC_TIME:
        return bool(count) and time_form(sample.frame[column]) is not None
    if name == "event_name":
        return bool(_event_names(sample, column)[0])
    return EVENT_SCHEMA[name] == pl.String or sample.numbers(column).count() >= READABLE * count


def _find_columns(sample: Sample, guess: Guess) -> None:
    for name, wanted in words()["columns"].items():
        of_lines = name in _LINE_COLUMNS
        found = [c for c in _named(sample, guess, wanted, of_lines=of_lines) if _agrees(sample, name, c)]
        if name == "amount" and sample.each is not None:
            guess.order_amount = [c for c in found if not c.startswith(f"{sample.each}.")]
            found = [c for c in found if c not in guess.order_amount]
        if found:
            guess.columns[name] = found if sample.each is not None and of_lines else found[:1]
    for name, wanted in words()["items"].items():
        for column in _named(sample, guess, wanted, of_lines=True)[:1]:
            guess.content[name] = column


def _find_time(sample: Sample, guess: Guess) -> None:
    """Find event_time by its values if no name matched, its format, and the column with the time of day."""
    if "event_time" not in guess.columns:
        left = [c for c in sample.frame.columns if c not in guess.used]
        # Numbers are recognised as times by name only.
        times = [c for c in left if time_form(sample.frame[c]) and not sample.numbers(c).count()]
        if len(times) != 1:
            return
        guess.columns["event_time"] = times
    guess.time = time_form(sample.frame[guess.columns["event_time"][0]]) or TimeForm()
    if guess.time.date_only:
        clocks = [(c, sample.filled(c)) for c in _named(sample, guess, words()["time_of_day"])]
        guess.time_of_day = next((c for c, held in clocks if len(held) and held.str.contains(_CLOCK).all()), None)


def _drop_order_totals(sample: Sample, guess: Guess) -> None:
    """Drop an amount that all lines of an order repeat: it is the order's total."""
    has = guess.first
    if sample.each is not None or not {"amount", "price", "order_id"} <= set(has):
        return
    quantity = sample.numbers(has["quantity"]).fill_null(1) if "quantity" in has else 1
    amount, line = sample.numbers(has["amount"]), sample.numbers(has["price"]) * quantity
    lines = pl.DataFrame({"order": sample.texts(has["order_id"]), "amount": amount, "line": line}).drop_nulls()
    several = lines.filter(pl.len().over("order") > 1)
    repeated = several.select((pl.col("amount").n_unique().over("order") == 1).mean()).item()
    equal = several.select(((pl.col("amount") - pl.col("line")).abs() < 0.011).mean()).item()
    if several.height and repeated > READABLE and equal < 1 - READABLE / 2:
        del guess.columns["amount"]
        guess.notes.append(
            f"{has['amount']} is the same on all lines of an order: it is the order's, and is not mapped"
        )


def _repeats(sample: Sample, guess: Guess) -> Iterator[str]:
    """Yield notes on repeated rows."""
    has, frame = guess.first, sample.frame
    equal = frame.height - frame.n_unique() if frame.width else 0
    if equal and sample.each is None:
        yield (
            f"{equal:,} of {frame.height:,} rows equal an earlier row and count once; if each is an event of its own, "
            f"add identified_by with the columns that identify a row, and nth"
        )
    if not {"order_id", "item_id", "event_time"} <= set(has):
        return
    if "event_name" in has:
        frame = frame.filter(pl.col(has["event_name"]).replace_strict(guess.events, default=None) == "purchase")
    order, item, time = has["order_id"], has["item_id"], has["event_time"]
    times = frame.drop_nulls([order, item, time]).group_by(order, item).agg(pl.col(time).n_unique().alias("times"))
    if again := times.filter(pl.last() > 1).height:
        yield (
            f"{again:,} order items have purchases at more than one time; if orders are resent, add "
            f"once_per: [order_id, item_id]"
        )


def guess_columns(sample: Sample) -> Guess:
    """Recognise the columns of a sample."""
    guess = Guess()
    _find_columns(sample, guess)
    _find_time(sample, guess)
    _drop_order_totals(sample, guess)
    if "event_name" in guess.columns:
        guess.events, guess.unknown_events = _event_names(sample, guess.columns["event_name"][0])
    guess.notes += [] if "event_id" in guess.columns else _repeats(sample, guess)
    return guess
