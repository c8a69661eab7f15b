"""How many different members (the buyers of an item) occur in a trailing window, without a row for each of its days.

A member counts on the days that any of its events covers, from the day after it is known until the window's last. These
stretches of days overlap; cut so that they do not, each is a `features.windows.Measure` row of its own, and their sum
on a day is 1 or 0 a member.
"""

import ibis
import ibis.expr.types as ir

from features.windows import Days


def stretches(table: ir.Table, keys: list[str], window: int, days: Days) -> ir.Table:
    """Return (keys, event_day, known_day): rows that count each combination of `keys` once on every day.

    Args:
        table: Events with the keys, event_day and known_day.
        keys: The entity and the member.
        window: Days that an event counts; the rows count for this window and for no other.
        days: Which days are asked for.
    """
    if days.single:
        known = table.filter(table.known_day < days.last)
        latest = known.group_by(*keys).agg(event_day=known.event_day.max())
        return latest.mutate(known_day=latest.event_day)
    rows = table.group_by(*keys, "event_day").agg(known_day=table.known_day.min())
    rows = rows.select(*keys, begin=rows.known_day + 1, end=rows.event_day + window)
    past = ibis.window(group_by=keys, order_by=["begin", "end"], preceding=None, following=0)
    reached = rows.select(*keys, "begin", "end", reached=rows.end.max().over(past))
    order = ibis.window(group_by=keys, order_by=["begin", "end"])
    before = reached.select(*keys, "begin", "end", before=reached.reached.lag().over(order))
    cut = before.select(*keys, "end", begin=ibis.greatest(before.begin, before.before.fill_null(-1) + 1))
    cut = cut.filter(cut.begin <= cut.end)
    return cut.select(*keys, event_day=(cut.end - window).cast("int32"), known_day=(cut.begin - 1).cast("int32"))
