"""Daily snapshots of what a user did: counts, money and recency over trailing days."""

import ibis
import ibis.expr.types as ir

from features.views.contract import ViewInput
from features.views.windows import (
    DAY_US,
    EVER,
    MONEY_UNITS,
    QUANTITY_UNITS,
    Measure,
    column,
    span_days,
    trailing,
    whole,
)

WINDOWS = (1, 7, 30, 90)
KEY = "user_id"

_WHAT = {
    "purchases": "Purchase lines in the last {w} (count).",
    "views": "Items viewed in the last {w} (count).",
    "carts": "Additions to the cart in the last {w} (count).",
    "spend": "Money of purchases in the last {w} (currency of the shop).",
    "orders": "Orders in the last {w}; one over midnight counts on both days (count).",
    "days_active": "Days with an event in the last {w} (days).",
}
DESCRIPTIONS: dict[str, str] = {
    **{f"{name}_{w}d": text.format(w=f"{w} days" if w > 1 else "day") for name, text in _WHAT.items() for w in WINDOWS},
    "units_90d": "Pieces bought in the last 90 days (pieces).",
    "refunds_90d": "Refund lines in the last 90 days (count).",
    "orders_ever": "Orders since the data begins (count).",
    "recency_days": "Time since the last event (days).",
    "purchase_recency_days": "Time since the last purchase (days; missing: never bought).",
    "tenure_days": "Time since the first event (days).",
    "mean_basket_90d": "Money per order in the last 90 days (currency of the shop; missing: no order).",
    "weekly_orders_90d": "Orders per week over 90 days, or the tenure if shorter, at least 7 days (orders per week).",
    "spend_trend": "Money in the last 30 days over a third of that in the last 90 (ratio; missing: no purchase).",
    "order_gap_days": "Mean time between the orders since the data begins (days; missing: fewer than two).",
}


def _counted(log: ir.Table, reach: int) -> list[Measure]:
    """Return the measures to aggregate: lines, active days and event times per day, and orders."""
    is_purchase = log.event_name == "purchase"

    def count(name: str) -> ir.Value:
        return log.count(where=log.event_name == name).cast("float64")

    by_day = log.group_by(KEY, "event_day", "known_day").agg(
        purchases=count("purchase"),
        views=count("view_item"),
        carts=count("add_to_cart"),
        refunds=count("refund"),
        spend=log.money.sum(where=is_purchase).fill_null(whole(0)),
        units=log.quantity.sum(where=is_purchase).fill_null(whole(0)),
        first_us=log.event_us.min(),
        last_us=log.event_us.max(),
        first_bought_us=log.event_us.min(where=is_purchase),
        bought_us=log.event_us.max(where=is_purchase),
    )
    days = by_day.group_by(KEY, "event_day").agg(known_day=by_day.known_day.min())
    bought = log.filter(is_purchase)
    orders = bought.group_by(KEY, "event_day", "order_key").agg(known_day=bought.known_day.min())
    windows = dict.fromkeys(("purchases", "views", "carts", "spend"), WINDOWS)
    moments = {"first_us": "min", "last_us": "max", "first_bought_us": "min", "bought_us": "max"}
    return [
        Measure(by_day, {**windows, "refunds": (90,), "units": (90,)}, moments),
        Measure(orders.mutate(orders=whole(1)), {"orders": (*WINDOWS, EVER)}),
        Measure(days.mutate(days_active=whole(1), alive=whole(1)), {"days_active": WINDOWS, "alive": (reach,)}),
    ]


def build(inputs: ViewInput) -> ir.Table:
    """Return a row (user_id, day, features) for every user and day of activity."""
    spine = span_days(KEY, inputs.log, inputs.reach, inputs.days)
    t = trailing(KEY, spine, inputs.days, *_counted(inputs.log, inputs.reach), only=column("alive", inputs.reach))
    now = t.day.cast("int64") * DAY_US

    def days(micros: ir.Value) -> ir.Value:
        return micros.cast("float64") / DAY_US

    tenure = days(now - t.first_us)
    order_gap = days(t.bought_us - t.first_bought_us) / (t.orders_ever - 1).nullif(0.0)
    return t.mutate(
        **{f"spend_{w}d": t[f"spend_{w}d"] / MONEY_UNITS for w in WINDOWS},
        **{f"days_active_{w}d": t[f"days_active_{w}d"].cast("int32") for w in WINDOWS},
        recency_days=days(now - t.last_us),
        purchase_recency_days=days(now - t.bought_us),
        tenure_days=tenure,
        mean_basket_90d=t.spend_90d / MONEY_UNITS / t.orders_90d.nullif(0.0),
        weekly_orders_90d=t.orders_90d * 7 / ibis.greatest(ibis.least(tenure, 90.0), 7.0),
        spend_trend=t.spend_30d * 3 / t.spend_90d.nullif(0.0),
        order_gap_days=ibis.ifelse(t.orders_ever > 1, order_gap, None),
        units_90d=t.units_90d / QUANTITY_UNITS,
    )
