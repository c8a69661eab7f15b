"""Trailing windows over days, exact also for events that arrive late, as Ibis expressions.

A snapshot for day T (00:00 UTC) counts an event in its window of w days iff the event was known by then and is young
enough: `known_day < T` and `T <= event_day + w`, where `known_day` is the day on which it was both over and received.
So an event enters the window at known_day + 1 and leaves it at event_day + w + 1: two changes, and the value at T is
the running sum of changes. That costs two rows an event and window, whatever the length of the windows.

Sums are doubles that hold whole numbers (money in units of 0.0001, quantities in thousandths): exact up to 2^53,
hence the same in whatever order threads add them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import ibis
import ibis.expr.types as ir

DAY_US = 86_400_000_000
MONEY_UNITS = 10_000
QUANTITY_UNITS = 1_000
EVER = 0  # the window that no event leaves


@dataclass(frozen=True)
class Measure:
    """What is summed: `table` has the key, event_day, known_day and the columns of `sums`, which hold whole numbers.

    Every column is summed over each of its windows (days; `EVER` is all time) into a column that `column` names.
    """

    table: ir.Table
    sums: dict[str, tuple[int, ...]]

    def pairs(self) -> list[tuple[str, int]]:
        """Return every (value, window)."""
        return [(value, window) for value, windows in self.sums.items() for window in windows]


def column(value: str, window: int) -> str:
    """Name the sum of `value` over `window` days."""
    return f"{value}_ever" if window == EVER else f"{value}_{window}d"


def whole_days(micros: ir.IntegerValue) -> ir.IntegerColumn:
    """Turn microseconds since 1970 into whole days, without the rounding of a division."""
    days: ir.IntegerColumn = ((micros - micros % DAY_US) / DAY_US).cast("int32")
    return days


def read_log(connection: ibis.BaseBackend, events: str) -> ir.Table:
    """Read events to the contract; add whole-number times, days, money, quantity and the order they belong to.

    Columns: user_id, item_id, event_name, event_id, event_us and known_us (microseconds since 1970), event_day,
    known_day, money and price (0.0001 of the currency; price null where unknown), quantity (thousandths), order_key.
    """
    raw = connection.read_parquet(events)
    origin = ibis.timestamp("1970-01-01", timezone="UTC")
    log = raw.select(
        "user_id",
        "item_id",
        "event_id",
        event_name=raw.event_name.cast("string"),
        event_us=raw.event_time.delta(origin, unit="microsecond"),
        ingested_us=raw.ingested_at.delta(origin, unit="microsecond"),
        money=(raw.amount.fill_null(0.0) * MONEY_UNITS).round().cast("float64"),
        quantity=(raw.quantity.fill_null(0) * QUANTITY_UNITS).round().cast("float64"),
        price=(ibis.coalesce(raw.price, raw.amount / raw.quantity.nullif(0)) * MONEY_UNITS).round().cast("float64"),
        order_key=ibis.coalesce(raw.order_id, raw.session_id, raw.event_id),
    )
    log = log.mutate(known_us=ibis.greatest(log.event_us, log.ingested_us)).drop("ingested_us")
    log = log.mutate(event_day=whole_days(log.event_us), known_day=whole_days(log.known_us))
    return connection.create_table("log", log, temp=True)


def _changes(key: str, measure: Measure, columns: Sequence[str]) -> list[ir.Table]:
    """Return the rows (key, day, one column a sum) by which the sums change, in and out of every window."""
    table = measure.table
    zero = ibis.literal(0.0)

    def rows(day: ir.Value, filled: dict[str, ir.Value]) -> ir.Table:
        return table.select(table[key], day=day.cast("int32"), **{name: filled.get(name, zero) for name in columns})

    def counted(value: str, window: int) -> ir.Value:
        if window == EVER:
            return table[value]
        return ibis.ifelse(table.known_day < table.event_day + window, table[value], 0.0)

    parts = [rows(table.known_day + 1, {column(*pair): counted(*pair) for pair in measure.pairs()})]
    for leaving in sorted({window for _, window in measure.pairs()} - {EVER}):
        out = {column(*pair): -counted(*pair) for pair in measure.pairs() if pair[1] == leaving}
        parts.append(rows(table.event_day + (leaving + 1), out))
    return parts


def side_by_side(key: str, counts: dict[str, ir.Table]) -> ir.Table:
    """Add up tables of (key, event_day, known_day, values) into one; a value that a table lacks is 0 in its rows.

    Args:
        key: The entity's column.
        counts: Names of a table's values, separated by blanks -> the table.
    """
    names = [name for values in counts for name in values.split()]
    zero = ibis.literal(0.0)
    parts = [
        table.select(
            key, "event_day", "known_day", **{name: table[name] if name in values.split() else zero for name in names}
        )
        for values, table in counts.items()
    ]
    rows: ir.Table = reduce(lambda left, right: left.union(right), parts)
    return rows.group_by(key, "event_day", "known_day").agg(**{name: rows[name].sum() for name in names})


def trailing(key: str, spine: ir.Table, measure: Measure) -> ir.Table:
    """Return one row for every (key, day) of `spine` with the sums of `measure` as known at that day's start."""
    columns = [column(*pair) for pair in measure.pairs()]
    zeros = {name: ibis.literal(0.0) for name in columns}
    rows = [part.mutate(wanted=ibis.literal(0.0)) for part in _changes(key, measure, columns)]
    rows.append(spine.select(key, day=spine.day.cast("int32"), **zeros, wanted=ibis.literal(1.0)))
    merged: ir.Table = reduce(lambda left, right: left.union(right), rows)
    daily = merged.group_by(key, "day").agg(
        **{name: merged[name].sum() for name in columns}, wanted=merged.wanted.max()
    )
    past = ibis.window(group_by=key, order_by="day", preceding=None, following=0)
    running = daily.select(key, "day", "wanted", **{name: daily[name].sum().over(past) for name in columns})
    return running.filter(running.wanted > 0).drop("wanted")


def latest(key: str, spine: ir.Table, table: ir.Table, values: dict[str, str]) -> ir.Table:
    """Return, for every (key, day) of `spine`, running extremes of what was known at the day's start.

    Args:
        key: The entity's column.
        spine: (key, day).
        table: Has `key`, `known_day` and the columns of `values`.
        values: Column -> "min" or "max".
    """
    known = table.group_by(key, "known_day").agg(**{name: getattr(table[name], how)() for name, how in values.items()})
    known = known.select(key, day=(known.known_day + 1).cast("int32"), wanted=ibis.literal(0), **_same(known, values))
    nothing = {name: ibis.null(known[name].type()) for name in values}
    rows = known.union(spine.select(key, day=spine.day.cast("int32"), wanted=ibis.literal(1), **nothing))
    past = ibis.window(group_by=key, order_by="day", preceding=None, following=0)
    daily = rows.group_by(key, "day").agg(
        wanted=rows.wanted.max(), **{name: getattr(rows[name], how)() for name, how in values.items()}
    )
    running = {name: getattr(daily[name], how)().over(past) for name, how in values.items()}
    return daily.select(key, "day", "wanted", **running).filter(ibis._.wanted > 0).drop("wanted")


def _same(table: ir.Table, names: dict[str, str]) -> dict[str, ir.Value]:
    return {name: table[name] for name in names}


def span_days(key: str, table: ir.Table, reach: int, last_day: int) -> ir.Table:
    """Return (key, day): every day from when a key was first known until `reach` days after its last event.

    Days in the middle without an event that young are among them: filter by a sum over `reach` days.
    """
    ends = table.group_by(key).agg(
        first=table.known_day.min() + 1, last=ibis.least(table.event_day.max() + reach, ibis.literal(last_day))
    )
    return ends.select(key, day=ibis.range(ends["first"], ends["last"] + 1).unnest().cast("int32"))


def active_days(key: str, table: ir.Table, reach: int, last_day: int) -> ir.Table:
    """Return (key, day): every day on which a known event of the key is at most `reach` days old."""
    seen = table.select(key, "event_day", "known_day").distinct()
    until = ibis.least(seen.event_day + reach, ibis.literal(last_day))
    return seen.select(key, day=ibis.range(seen.known_day + 1, until + 1).unnest().cast("int32")).distinct()
