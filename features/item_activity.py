"""Weekly snapshots of how an item fares: trend, conversion, buyers, ratings and returns.

Of items with an event in the last week, like `item_popularity`, but every seventh day back from the last one, on which
the weekly cut-offs of training fall: a fraction of the cost of every day, for features that move slowly. Windows are
whole weeks, so events may be counted by week before anything else.
"""

import ibis.expr.types as ir

from features.distinct import stretches
from features.item_popularity import REACH
from features.views import World
from features.windows import EVER, Measure, Spine, trailing, whole

KEY = "item_id"
EVERY = REACH  # days; so that an event is young on one of the days that get a row at most
WEEK, MONTH = 7, 28
RATING_UNITS = 1_000

DESCRIPTIONS: dict[str, str] = {
    "item_trend": "Events with the item a day in the last 7 days, over those a day in the last 28 (ratio).",
    "item_sales_trend": "Purchase lines a day in the last 7 days, over the last 28 (ratio; missing: no purchase).",
    "item_views_28d": "Views of the item in the last 28 days (count).",
    "item_conversion_28d": "Purchase lines over views in the last 28 days (ratio; missing: no view).",
    "item_buyers_28d": "Different users who bought the item in the last 28 days (count).",
    "item_ratings_ever": "Ratings of the item since the data begins (count).",
    "item_mean_rating_ever": "Rating of the item, mean since the data begins (stars, 0 to 5; missing: no rating).",
    "item_return_share_ever": "Refund lines over purchase lines since the data begins (ratio; missing: no purchase).",
}


def _by_week(log: ir.Table, world: World) -> ir.Table:
    """Return the log with its days moved to where they make no difference on the days that get a row.

    Those are T = last - 7k. `event_day` becomes the last such day not after it: T <= event_day + w holds as before, for
    w of whole weeks. `known_day` becomes the day before the next one: known_day < T holds as before.
    """
    event = log.event_day - (log.event_day - world.days.last % EVERY) % EVERY
    known = log.known_day + (world.days.last - log.known_day - 1) % EVERY
    moved = log.filter(log.known_day < world.days.last)
    return moved.mutate(event_day=event.cast("int32"), known_day=known.cast("int32"))


def _days(log: ir.Table, world: World) -> Spine:
    """Return the items and days that get a row: those by which an event of the last week is known."""
    rows = log.select(KEY, "event_day", day=(log.known_day + 1).cast("int32"))
    rows = rows.filter((rows.day <= rows.event_day + REACH) & (rows.day >= world.days.first))
    return Spine(rows.select(KEY, "day").distinct(), world.days)


def _counted(log: ir.Table) -> Measure:
    """Return the counts of the last weeks, in one pass."""
    lines = log.group_by(KEY, "event_day", "known_day").agg(
        events=log.count().cast("float64"),
        views=log.count(where=log.event_name == "view_item").cast("float64"),
        bought=log.count(where=log.event_name == "purchase").cast("float64"),
    )
    return Measure(lines, {"events": (WEEK, MONTH), "bought": (WEEK, MONTH), "views": (MONTH,)})


def _counted_ever(log: ir.Table) -> Measure:
    """Return the counts since the data begins."""
    log = log.filter(log.event_name.isin(("purchase", "refund", "review")))
    rated = (log.event_name == "review") & log.rating.notnull()
    lines = log.group_by(KEY, "event_day", "known_day").agg(
        lines=log.count(where=log.event_name == "purchase").cast("float64"),
        returned=log.count(where=log.event_name == "refund").cast("float64"),
        ratings=log.count(where=rated).cast("float64"),
        stars=(log.rating * RATING_UNITS).round().cast("float64").sum(where=rated).fill_null(whole(0)),
    )
    return Measure(lines, dict.fromkeys(("lines", "returned", "ratings", "stars"), (EVER,)))


def build(world: World) -> ir.Table:
    """Return a row (item_id, day, features) for items with an event in the last week, every seventh day."""
    every, log = (_by_week(t.filter(t.item_id.notnull()), world) for t in (world.log, world.within(MONTH)))
    buyers = log.filter((log.event_name == "purchase") & log.user_id.notnull())
    buyers = stretches(buyers, [KEY, "user_id"], MONTH, world.days).mutate(buyers=whole(1))
    t = trailing(KEY, _days(log, world), _counted(log), Measure(buyers, {"buyers": (MONTH,)}), _counted_ever(every))

    def ratio(top: ir.Value, bottom: ir.Value) -> ir.Value:
        return (top / bottom.nullif(whole(0))).cast("float32")

    values = {
        "item_trend": ratio(t.events_7d * MONTH, t.events_28d * WEEK),
        "item_sales_trend": ratio(t.bought_7d * MONTH, t.bought_28d * WEEK),
        "item_views_28d": t.views_28d.cast("int32"),
        "item_conversion_28d": ratio(t.bought_28d, t.views_28d),
        "item_buyers_28d": t.buyers_28d.cast("int32"),
        "item_ratings_ever": t.ratings_ever.cast("int32"),
        "item_mean_rating_ever": ratio(t.stars_ever, t.ratings_ever * RATING_UNITS),
        "item_return_share_ever": ratio(t.returned_ever, t.lines_ever),
    }
    return t.select(KEY, "day", **{name: values[name] for name in DESCRIPTIONS})
