"""What lies between a user and an item, as repeat buying needs it: how often bought, how long ago, how regularly.

As of the last day only. A row for every pair and day would be the log times the days that it lasts; the pairs of one
day are at most the lines of the last 90 days. Rows of an earlier moment, which training needs, are computed for the
users and days that are asked for by `features.as_of`, from the same definition.
"""

import ibis
import ibis.expr.types as ir

from features.views import World
from features.windows import DAY_US, QUANTITY_UNITS, whole

KEYS = ("user_id", "item_id")
BOUGHT_DAYS, VIEWED_DAYS = 90, 30

DESCRIPTIONS: dict[str, str] = {
    "pair_orders_ever": "Orders of the user with the item since the data begins (count).",
    "pair_units_90d": "Pieces of the item that the user bought in the last 90 days (pieces).",
    "pair_recency_days": "Time since the user last bought the item (days; missing: never).",
    "pair_gap_days": "Mean time between the user's orders of the item (days; missing: fewer than two).",
    "pair_due": "Time since the user last bought the item over that mean (ratio; missing: fewer than two).",
    "pair_views_30d": "Views of the item by the user in the last 30 days (count).",
}


def build(world: World) -> ir.Table:
    """Return a row (user_id, item_id, day, features) for pairs bought in the last 90 days or viewed in the last 30.

    `day` is the last day of the world, whatever its first. One order over midnight counts as two.
    """
    day = world.days.last
    log = world.log.filter((world.log.known_day < day) & world.log.item_id.notnull())
    log = log.filter(log.event_name.isin(("purchase", "view_item")))
    bought = log.event_name == "purchase"
    orders = log.group_by(*KEYS, "event_day", "order_key").agg(
        orders=bought.any().cast("int32"),
        first_us=log.event_us.min(where=bought),
        last_us=log.event_us.max(where=bought),
        units=log.quantity.sum(where=bought & (log.event_day >= day - BOUGHT_DAYS)).fill_null(whole(0)),
        views=log.count(where=~bought & (log.event_day >= day - VIEWED_DAYS)),
    )
    pairs = orders.group_by(*KEYS).agg(
        orders=orders.orders.sum().cast("float64"),
        first_us=orders.first_us.min(),
        last_us=orders.last_us.max(),
        units=orders.units.sum(),
        views=orders.views.sum(),
    )
    pairs = pairs.filter((pairs.last_us >= (day - BOUGHT_DAYS) * DAY_US) | (pairs.views > 0))
    return _features(pairs, day)


def _features(pairs: ir.Table, day: int) -> ir.Table:
    """Turn counts and moments into features with their units."""
    since = (day * DAY_US - pairs.last_us).cast("float64")
    gap = (pairs.last_us - pairs.first_us).cast("float64") / (pairs.orders - 1).nullif(0.0)
    gap = ibis.ifelse(pairs.orders > 1, gap, None)
    values = {
        "pair_orders_ever": pairs.orders.cast("int32"),
        "pair_units_90d": (pairs.units / QUANTITY_UNITS).cast("float32"),
        "pair_recency_days": (since / DAY_US).cast("float32"),
        "pair_gap_days": (gap / DAY_US).cast("float32"),
        "pair_due": (since / gap.nullif(0.0)).cast("float32"),
        "pair_views_30d": pairs.views.cast("int32"),
    }
    return pairs.select(*KEYS, day=ibis.literal(day, "int32"), **{name: values[name] for name in DESCRIPTIONS})
