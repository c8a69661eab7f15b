"""Weekly snapshots of how an item performs: trend, conversion, buyers, ratings and returns.

Covers items with an event in the last week, on every seventh day back from the last, which are the weekly cut-offs of
training. For slowly changing features this costs a fraction of daily snapshots. Windows are whole weeks, so events can
be counted per week first.
"""

import ibis
import ibis.expr.types as ir

from features.views.contract import ViewInput
from features.views.windows import EVER, Days, Measure, trailing, whole

KEY = "item_id"
REACH = 7  # days; most items sell rarely, so rows for inactive items would outnumber the others many times
EVERY = REACH  # so that an event is recent on at most one snapshot day
WEEK, MONTH = 7, 28
RATING_UNITS = 1_000

DESCRIPTIONS: dict[str, str] = {
    "item_trend": "Events with the item per day in the last 7 days, over those per day in the last 28 (ratio).",
    "item_sales_trend": "Purchase lines per day in the last 7 days, over the last 28 (ratio; missing: no purchase).",
    "item_views_28d": "Views of the item in the last 28 days (count).",
    "item_conversion_28d": "Purchase lines over views in the last 28 days (ratio; missing: no view).",
    "item_buyers_28d": "Different users who bought the item in the last 28 days (count).",
    "item_ratings_ever": "Ratings of the item since the data begins (count).",
    "item_mean_rating_ever": "Rating of the item, mean since the data begins (stars, 0 to 5; missing: no rating).",
    "item_return_share_ever": "Refund lines over purchase lines since the data begins (ratio; missing: no purchase).",
}


def _by_week(log: ir.Table, inputs: ViewInput) -> ir.Table:
    """Round the log's days to snapshot days, as far as no snapshot can tell the difference.

    Snapshot days are T = last - 7k. `event_day` is rounded down to one, which preserves T <= event_day + w for windows
    w of whole weeks. `known_day` becomes the day before the next one, which preserves known_day < T.
    """
    event = log.event_day - (log.event_day - inputs.days.last % EVERY) % EVERY
    known = log.known_day + (inputs.days.last - log.known_day - 1) % EVERY
    moved = log.filter(log.known_day < inputs.days.last)
    return moved.mutate(event_day=event.cast("int32"), known_day=known.cast("int32"))


def _days(log: ir.Table, inputs: ViewInput) -> ir.Table:
    """Return the (item, day) pairs with a row: those with a known event in the last week."""
    rows = log.select(KEY, "event_day", day=(log.known_day + 1).cast("int32"))
    rows = rows.filter((rows.day <= rows.event_day + REACH) & (rows.day >= inputs.days.first))
    return rows.select(KEY, "day").distinct()


def _counted(log: ir.Table) -> Measure:
    """Return the counts of the last weeks."""
    lines = log.group_by(KEY, "event_day", "known_day").agg(
        events=log.count().cast("float64"),
        views=log.count(where=log.event_name == "view_item").cast("float64"),
        bought=log.count(where=log.event_name == "purchase").cast("float64"),
    )
    return Measure(lines, {"events": (WEEK, MONTH), "bought": (WEEK, MONTH), "views": (MONTH,)})


def _counted_ever(log: ir.Table) -> Measure:
    """Return the counts since the start of the data."""
    log = log.filter(log.event_name.isin(("purchase", "refund", "review")))
    rated = (log.event_name == "review") & log.rating.notnull()
    lines = log.group_by(KEY, "event_day", "known_day").agg(
        lines=log.count(where=log.event_name == "purchase").cast("float64"),
        returned=log.count(where=log.event_name == "refund").cast("float64"),
        ratings=log.count(where=rated).cast("float64"),
        stars=(log.rating * RATING_UNITS).round().cast("float64").sum(where=rated).fill_null(whole(0)),
    )
    return Measure(lines, dict.fromkeys(("lines", "returned", "ratings", "stars"), (EVER,)))


def _intervals(table: ir.Table, keys: list[str], window: int, days: Days) -> ir.Table:
    """Return (keys, event_day, known_day) rows that count each combination of `keys` once per day.

    Each event of a buyer covers the days from the day after it is known to the end of its window. Overlapping intervals
    are cut so that their sum is 0 or 1 per buyer and day.

    Args:
        table: Events with the keys, event_day and known_day.
        keys: The entity and the member to count.
        window: Window in days; the rows are valid only for this window.
        days: The requested days.
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


def build(inputs: ViewInput) -> ir.Table:
    """Return a row (item_id, day, features) for items with an event in the last week, every seventh day."""
    every, log = (_by_week(t.filter(t.item_id.notnull()), inputs) for t in (inputs.log, inputs.within(MONTH)))
    buyers = log.filter((log.event_name == "purchase") & log.user_id.notnull())
    buyers = _intervals(buyers, [KEY, "user_id"], MONTH, inputs.days).mutate(buyers=whole(1))
    t = trailing(
        KEY,
        _days(log, inputs),
        inputs.days,
        _counted(log),
        Measure(buyers, {"buyers": (MONTH,)}),
        _counted_ever(every),
    )

    def ratio(top: ir.Value, bottom: ir.Value) -> ir.Value:
        return top / bottom.nullif(whole(0))

    return t.mutate(
        item_trend=ratio(t.events_7d * MONTH, t.events_28d * WEEK),
        item_sales_trend=ratio(t.bought_7d * MONTH, t.bought_28d * WEEK),
        item_views_28d=t.views_28d,
        item_conversion_28d=ratio(t.bought_28d, t.views_28d),
        item_buyers_28d=t.buyers_28d,
        item_ratings_ever=t.ratings_ever,
        item_mean_rating_ever=ratio(t.stars_ever, t.ratings_ever * RATING_UNITS),
        item_return_share_ever=ratio(t.returned_ever, t.lines_ever),
    )
