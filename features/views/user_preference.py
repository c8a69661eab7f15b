"""Daily snapshots of a user's preferences: most frequent category, brand and price band, and buying habits.

Price bands start at 1, 2 and 5 times each power of ten. They depend only on the event's price, because bands derived
from the whole log would leak later prices into a snapshot.
"""

import ibis
import ibis.expr.types as ir

from features.views.contract import ViewInput
from features.views.windows import MONEY_UNITS, Measure, column, span_days, trailing, whole, whole_days

KEY = "user_id"
WINDOW = 90

DESCRIPTIONS: dict[str, str] = {
    "top_category_90d": "Top-level category of most of the user's events with an item in the last 90 days (name).",
    "top_category_share_90d": "Share of that category among those events (share, 0 to 1).",
    "category_count_90d": "Top-level categories among those events (count).",
    "top_brand_90d": "Brand of most of the user's events with an item in the last 90 days (name).",
    "top_brand_share_90d": "Share of that brand among the events whose item has a brand (share, 0 to 1).",
    "top_price_band_90d": "Lower end of the price band (1, 2, 5, 10, 20 ...) of most of the user's events with a price "
    "in the last 90 days (currency of the shop; 0: less than 0.01).",
    "top_price_band_share_90d": "Share of that band among those events (share, 0 to 1).",
    "mean_price_90d": "Price paid for one piece, mean over purchase lines of the last 90 days (currency of the shop).",
    "lines_per_order_90d": "Purchase lines per order in the last 90 days (lines per order).",
    "repeat_share_90d": "Share of purchase lines in the last 90 days whose item the user had bought before (0 to 1).",
}
_NOT_LIKED = ("refund", "remove_from_cart")
_CONTENT = ("category_1_code", "brand_code")
_BANDS = tuple(step * 10**power for power in range(2, 12) for step in (1, 2, 5))  # lower ends, in units of money
_LAG_BITS = 12
_LAG = (1 << _LAG_BITS) - 1  # days


def _top_content(content: ir.Table, name: str, inputs: ViewInput) -> ir.Table:
    """Return `most_met` for a content column, with the name as `top`; codes are in alphabetical order."""
    code = f"{name}_code"
    top = inputs.most_met(content.filter(content[code] > 0).rename(code=code), WINDOW)
    names = inputs.catalogue.filter(inputs.catalogue[code] > 0).select(code=code, name=name).distinct()
    return top.join(names, "code").select(KEY, "day", "count", "total", "values", top=ibis._.name)


def _top_band(liked: ir.Table, inputs: ViewInput) -> ir.Table:
    """Return `most_met` for the price bands, with the lower end of the band as `top`."""
    priced = liked.filter(liked.price.notnull())
    above = [(priced.price >= end).cast("int32") for end in _BANDS]
    top = inputs.most_met(priced.mutate(code=sum(above[1:], above[0])), WINDOW)
    ends = ibis.array([0.0, *(end / MONEY_UNITS for end in _BANDS)])
    return top.mutate(top=ends[top.code].cast("float32"))


def _first_bought(bought: ir.Table) -> ir.Table:
    """Return the purchase line that arrived first for each user and item: (user_id, item_id, event_day, known_day).

    Lines are ordered by arrival, so a late line never changes an earlier snapshot. Arrival time and delay are packed
    into one number; the delay is capped at `_LAG` days, because an older line is outside every window.
    """
    lag = ibis.least(bought.known_day - bought.event_day, ibis.literal(_LAG))
    arrival = (bought.known_us * (_LAG + 1) + (_LAG - lag)).min()
    first = bought.group_by(KEY, "item_id").agg(arrival=arrival)
    rest = first.arrival % (_LAG + 1)
    known_day = whole_days(((first.arrival - rest).cast("int64") >> _LAG_BITS).cast("int64"))
    return first.select(KEY, known_day=known_day, event_day=(known_day - (_LAG - rest)).cast("int32"), firsts=whole(1))


def _habits(inputs: ViewInput) -> ir.Table:
    """Return the measures of purchases: lines, first purchases of an item, orders and prices."""
    ever = inputs.log.filter(inputs.log.event_name == "purchase")
    bought = inputs.within(WINDOW)
    bought = bought.filter(bought.event_name == "purchase")
    priced, prices = bought.price.notnull().cast("float64"), bought.price.fill_null(whole(0))
    lines = bought.select(KEY, "event_day", "known_day", lines=whole(1), priced=priced, prices=prices)
    orders = bought.group_by(KEY, "event_day", "order_key").agg(known_day=bought.known_day.min())
    return trailing(
        KEY,
        span_days(KEY, bought, WINDOW, inputs.days),
        inputs.days,
        Measure(lines, dict.fromkeys(("lines", "priced", "prices"), (WINDOW,))),
        Measure(orders.mutate(orders=whole(1)), {"orders": (WINDOW,)}),
        Measure(_first_bought(ever), {"firsts": (WINDOW,)}),
        only=column("lines", WINDOW),
    )


def build(inputs: ViewInput) -> ir.Table:
    """Return a row (user_id, day, features) for every user and day of activity."""
    log = inputs.within(WINDOW)
    liked = log.filter(log.event_name.notin(_NOT_LIKED))
    content = liked.join(inputs.catalogue.select("item_id", *_CONTENT), "item_id")
    t = inputs.while_active().select(KEY, "day")
    tops = {name: _top_content(content, name, inputs) for name in ("category_1", "brand")}
    tops["band"] = _top_band(liked, inputs)
    for name, table in tops.items():
        t = t.left_join(table, [KEY, "day"], rname=f"{name}_{{name}}").drop(f"{name}_{KEY}", f"{name}_day")
    t = t.left_join(_habits(inputs), [KEY, "day"])
    return t.mutate(
        top_category_90d=t.top,
        top_category_share_90d=t["count"] / t.total,
        category_count_90d=t["values"].fill_null(0).cast("int32"),
        top_brand_90d=t.brand_top,
        top_brand_share_90d=t.brand_count / t.brand_total,
        top_price_band_90d=t.band_top,
        top_price_band_share_90d=t.band_count / t.band_total,
        mean_price_90d=t.prices_90d / MONEY_UNITS / t.priced_90d.nullif(0.0),
        lines_per_order_90d=t.lines_90d / t.orders_90d,
        repeat_share_90d=(t.lines_90d - t.firsts_90d) / t.lines_90d,
    )
