"""Daily snapshots of how an item sells, for items with an event in the last week."""

import ibis
import ibis.expr.types as ir

from features.windows import MONEY_UNITS, QUANTITY_UNITS, Measure, active_days, side_by_side, trailing

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


def item_popularity(log: ir.Table, last_day: int) -> ir.Table:
    """Return a row (item_id, day, features) for every item and day with an event in the last week.

    Args:
        log: As `read_log` gives it.
        last_day: The last day (since 1970) that gets a snapshot.
    """
    log = log.filter(log.item_id.notnull())
    is_purchase = log.event_name == "purchase"
    lines = log.group_by(KEY, "event_day", "known_day").agg(
        item_events=log.count().cast("float64"),
        item_units=ibis.ifelse(is_purchase, log.quantity, 0.0).sum(),
        item_spend=ibis.ifelse(is_purchase, log.money, 0.0).sum(),
    )
    bought = log.filter(is_purchase)
    orders = bought.group_by(KEY, "event_day", "user_id", "order_key").agg(known_day=bought.known_day.min())
    orders = orders.group_by(KEY, "event_day", "known_day").agg(item_orders=orders.count().cast("float64"))
    table = side_by_side(KEY, {"item_events item_units item_spend": lines, "item_orders": orders})
    t = trailing(KEY, active_days(KEY, log, REACH, last_day), Measure(table, dict.fromkeys(_WHAT, WINDOWS)))
    values = {}
    for w in WINDOWS:
        values[f"item_events_{w}d"] = t[f"item_events_{w}d"].cast("int32")
        values[f"item_units_{w}d"] = (t[f"item_units_{w}d"] / QUANTITY_UNITS).cast("float32")
        values[f"item_orders_{w}d"] = t[f"item_orders_{w}d"].cast("int32")
        values[f"item_spend_{w}d"] = (t[f"item_spend_{w}d"] / MONEY_UNITS).cast("float32")
    return t.select(KEY, "day", **{name: values[name] for name in DESCRIPTIONS})
