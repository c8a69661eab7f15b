"""Daily snapshots of how an item sells, for items with an event in the last week."""

import ibis
import ibis.expr.types as ir

from features.views import World
from features.windows import MONEY_UNITS, QUANTITY_UNITS, Measure, active_days, column, trailing, whole

KEY = "item_id"
WINDOWS = (7, 30, 90)
REACH = 7  # most of a catalogue sells rarely: rows for items at rest would be many times the others

_WHAT = {
    "item_events": "Events with the item in the last {w} days (count).",
    "item_units": "Pieces bought in the last {w} days (pieces).",
    "item_orders": "Orders with the item in the last {w} days; one over midnight counts twice (count).",
    "item_spend": "Money of purchases of the item in the last {w} days (currency of the shop).",
}
DESCRIPTIONS: dict[str, str] = {f"{name}_{w}d": text.format(w=w) for name, text in _WHAT.items() for w in WINDOWS}


def build(world: World) -> ir.Table:
    """Return a row (item_id, day, features) for every item and day with an event in the last week."""
    log = world.within(max(WINDOWS))
    log = log.filter(log.item_id.notnull())
    is_purchase = log.event_name == "purchase"
    lines = log.select(
        KEY,
        "event_day",
        "known_day",
        item_events=whole(1),
        alive=whole(1),
        item_units=ibis.ifelse(is_purchase, log.quantity, whole(0)),
        item_spend=ibis.ifelse(is_purchase, log.money, whole(0)),
    )
    bought = log.filter(is_purchase)
    orders = bought.group_by(KEY, "event_day", "user_id", "order_key").agg(known_day=bought.known_day.min())
    t = trailing(
        KEY,
        active_days(KEY, log, REACH, world.days),
        Measure(lines, {**dict.fromkeys(("item_events", "item_units", "item_spend"), WINDOWS), "alive": (REACH,)}),
        Measure(orders.mutate(item_orders=whole(1)), {"item_orders": WINDOWS}),
        only=column("alive", REACH),
    )
    values = {}
    for w in WINDOWS:
        values[f"item_events_{w}d"] = t[f"item_events_{w}d"].cast("int32")
        values[f"item_units_{w}d"] = (t[f"item_units_{w}d"] / QUANTITY_UNITS).cast("float32")
        values[f"item_orders_{w}d"] = t[f"item_orders_{w}d"].cast("int32")
        values[f"item_spend_{w}d"] = (t[f"item_spend_{w}d"] / MONEY_UNITS).cast("float32")
    return t.select(KEY, "day", **{name: values[name] for name in DESCRIPTIONS})
