"""Trailing windows over days as Ibis expressions, exact even for late events.

A snapshot for day T (00:00 UTC) counts a row in its window of w days iff the row was known by then and is recent
enough: `known_day < T` and `T <= event_day + w`. On `known_day` it had both happened and been received.

The definition has two physical plans, and `Days` chooses:

- One day: sum the rows known before T, with one condition per window. History adds no cost.
- Several days: a row enters a window at known_day + 1 and leaves it at event_day + w + 1. The value at T is the running
  sum of these two changes, which costs two rows per day of events and window, whatever the window's length. Changes
  before the first requested day form its opening balance; those after the last are dropped.

Sums are doubles with integer values (money in units of 0.0001, quantities in thousandths), exact up to 2^53, so the
result does not depend on the order of summation, the plan or the engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import ibis
import ibis.expr.types as ir

DAY_US = 86_400_000_000
MONEY_UNITS = 10_000
QUANTITY_UNITS = 1_000
EVER = 0  # a window that no event leaves

Key = str | tuple[str, ...]


@dataclass(frozen=True)
class Days:
    """The days to snapshot, counted from 1970, both ends inclusive."""

    first: int
    last: int

    @property
    def single(self) -> bool:
        """Whether it is a single day, so that windows are conditions instead of changes."""
        return self.first == self.last


@dataclass(frozen=True)
class Measure:
    """Columns to sum and to take extremes of.

    Attributes:
        table: Has the key, event_day, known_day and the columns named below. A row is an event or another unit to
            count, such as an order or a day.
        sums: Windows in days (`EVER` for all time) of each integer-valued float64 column; `column` names each sum.
        extremes: "min" or "max" of each column over all rows known at the day's start; the column keeps its name.
    """

    table: ir.Table
    sums: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    extremes: Mapping[str, str] = field(default_factory=dict)

    def pairs(self) -> list[tuple[str, int]]:
        """Return all (value, window) pairs."""
        return [(value, window) for value, windows in self.sums.items() for window in windows]

    def reach(self) -> int:
        """Return the number of days after which a row no longer counts; `EVER` if it always does."""
        windows = [window for _, window in self.pairs()]
        return EVER if self.extremes or not windows or EVER in windows else max(windows)


def whole(number: int) -> ir.FloatingScalar:
    """Return an integer as a double literal; Spark treats 1.0 as a decimal, whose sums are decimals."""
    value: ir.FloatingScalar = ibis.literal(number).cast("float64")
    return value


def column(value: str, window: int) -> str:
    """Return the name of the sum of `value` over `window` days."""
    return f"{value}_ever" if window == EVER else f"{value}_{window}d"


def whole_days(micros: ir.IntegerValue) -> ir.IntegerColumn:
    """Convert microseconds since 1970 to whole days without rounding errors."""
    days: ir.IntegerColumn = ((micros - micros % DAY_US) / DAY_US).cast("int32")
    return days


def _names(key: Key) -> list[str]:
    return [key] if isinstance(key, str) else list(key)


def _extreme(value: ir.Value, how: str) -> ir.Value:
    extreme: ir.Value = getattr(value, how)()
    return extreme


@dataclass(frozen=True)
class _Shape:
    """The output columns of all measures: sums, and extremes with their types."""

    keys: list[str]
    sums: list[str]
    extremes: dict[str, tuple[str, ir.Value]]  # name -> (aggregation, null of its type)

    @classmethod
    def of(cls, key: Key, measures: Sequence[Measure]) -> "_Shape":
        sums = [column(*pair) for measure in measures for pair in measure.pairs()]
        extremes = {
            name: (how, ibis.null(measure.table[name].type()))
            for measure in measures
            for name, how in measure.extremes.items()
        }
        return cls(_names(key), sums, extremes)

    def rows(self, table: ir.Table, filled: Mapping[str, ir.Value], **more: ir.Value) -> ir.Table:
        """Select the columns from `table`; columns not in `filled` are 0 (sums) or null (extremes)."""
        zero = whole(0)
        values = {name: filled.get(name, zero) for name in self.sums}
        values |= {name: filled.get(name, null) for name, (_, null) in self.extremes.items()}
        return table.select(*self.keys, **more, **values)

    def totals(self, table: ir.Table) -> dict[str, ir.Value]:
        """Aggregate the columns of `table`."""
        found = {name: table[name].sum() for name in self.sums}
        return found | {name: _extreme(table[name], how) for name, (how, _) in self.extremes.items()}


def trailing(key: Key, spine: ir.Table, days: Days, *measures: Measure, only: str | None = None) -> ir.Table:
    """Return (key, day, sums, extremes) as known at the start of each day.

    Args:
        key: The entity's columns.
        spine: The (key, day) pairs that get a row. The plan for one day may not use it, at no cost.
        days: The requested days.
        measures: The measures; their columns must have distinct names.
        only: A sum that must be positive in a row; None keeps every row of the spine. With it, the plan for one day
            does not use the spine, so the measures must not have keys outside of it.
    """
    shape = _Shape.of(key, measures)
    plan = partial(_one_day, only=only) if days.single else _many_days
    answer = plan(shape, spine, days, measures)
    return answer if only is None else answer.filter(answer[only] > 0)


def _one_day(shape: _Shape, spine: ir.Table, days: Days, measures: Sequence[Measure], only: str | None) -> ir.Table:
    """Sum the rows known before the day, with one condition per window."""
    day = ibis.literal(days.last, "int32")
    parts = [_one_measure(shape.keys, measure, days.last) for measure in measures]
    if only is not None and len(parts) == 1:
        return parts[0].select(*shape.keys, *shape.sums, *shape.extremes, day=day)
    rows = [shape.rows(part, {name: part[name] for name in part.columns}) for part in parts]
    if only is None:
        rows.append(shape.rows(spine, {}))
        rows = [part.mutate(wanted=ibis.literal(int(part is rows[-1]))) for part in rows]
    merged = ibis.union(*rows)
    keep = {} if only is not None else {"wanted": merged.wanted.max()}
    answer = merged.group_by(*shape.keys).agg(**shape.totals(merged), **keep)
    if only is None:
        answer = answer.filter(answer.wanted > 0).drop("wanted")
    return answer.select(*shape.keys, *shape.sums, *shape.extremes, day=day)


def _one_measure(keys: list[str], measure: Measure, day: int) -> ir.Table:
    t = measure.table
    t = t.filter(t.known_day < day)
    reach = measure.reach()
    if reach != EVER:
        t = t.filter(t.event_day >= day - reach)

    def counted(value: str, window: int) -> ir.Value:
        if window in (EVER, reach):
            return t[value].sum()
        return t[value].sum(where=t.event_day >= day - window).fill_null(whole(0))

    sums = {column(*pair): counted(*pair) for pair in measure.pairs()}
    return t.group_by(*keys).agg(**sums, **{name: _extreme(t[name], how) for name, how in measure.extremes.items()})


def _many_days(shape: _Shape, spine: ir.Table, days: Days, measures: Sequence[Measure]) -> ir.Table:
    """Sum the changes by day, then take running sums over the days of each key."""
    rows = [part.mutate(wanted=ibis.literal(0)) for m in measures for part in _changes(shape, m, days)]
    rows.append(shape.rows(spine, {}, day=spine.day.cast("int32")).mutate(wanted=ibis.literal(1)))
    merged = ibis.union(*rows)
    daily = merged.group_by(*shape.keys, "day").agg(**shape.totals(merged), wanted=merged.wanted.max())
    past = ibis.window(group_by=shape.keys, order_by="day", preceding=None, following=0)
    totals = {name: value.over(past) for name, value in shape.totals(daily).items()}
    running = daily.select(*shape.keys, "day", "wanted", **totals)
    return running.filter(running.wanted > 0).drop("wanted")


def _changes(shape: _Shape, measure: Measure, days: Days) -> list[ir.Table]:
    """Return the changes of sums and extremes as rows enter and leave every window."""
    reach = measure.reach()
    known = measure.table if reach == EVER else measure.table.filter(measure.table.event_day >= days.first - reach)
    extremes = {name: _extreme(known[name], how) for name, how in measure.extremes.items()}
    table = known.group_by(*shape.keys, "event_day", "known_day").agg(
        **{value: known[value].sum() for value in measure.sums}, **extremes
    )

    def counted(value: str, window: int) -> ir.Value:
        if window == EVER:
            return table[value]
        return ibis.ifelse(table.known_day < table.event_day + window, table[value], whole(0))

    def moved(day: ir.Value, filled: Mapping[str, ir.Value]) -> ir.Table:
        part = shape.rows(table, filled, day=ibis.greatest(day, ibis.literal(days.first)).cast("int32"))
        return part.filter(part.day <= days.last)

    entering = {column(*pair): counted(*pair) for pair in measure.pairs()}
    parts = [moved(table.known_day + 1, entering | {name: table[name] for name in extremes})]
    for leaving in sorted({window for _, window in measure.pairs()} - {EVER}):
        out = {column(*pair): -counted(*pair) for pair in measure.pairs() if pair[1] == leaving}
        parts.append(moved(table.event_day + (leaving + 1), out))
    return parts


def span_days(key: Key, table: ir.Table, reach: int, days: Days) -> ir.Table:
    """Return (key, day) for every day from when a key was first known to `reach` days after its last event.

    This includes days without an event in the last `reach` days; filter by a sum over `reach` days.
    """
    keys = _names(key)
    ends = table.group_by(*keys).agg(first=table.known_day.min() + 1, last=table.event_day.max() + reach)
    first = ibis.greatest(ends["first"], ibis.literal(days.first)).cast("int32")
    last = ibis.least(ends["last"], ibis.literal(days.last)).cast("int32")
    inside = ends.select(*keys, first=first, last=last)
    inside = inside.filter(inside["first"] <= inside["last"])
    if days.single:
        return inside.select(*keys, day=inside["first"])
    # The cast is a separate step, because Spark does not allow `explode` inside an expression.
    each = inside.select(*keys, each=ibis.range(inside["first"], inside["last"] + 1).unnest())
    return each.select(*keys, day=each.each.cast("int32"))
