"""Items bought in the same orders as an item in the last 90 days, as of the last day only.

The number of pairs grows with the square of the order size, and pairs cannot be summed day by day, so every snapshot
would process 90 days of orders. Suggestions need only one day. The size is bounded: orders of more than `LARGEST` items
reveal little about any two of them and are left out, a pair must occur in at least `SEEN` orders, and each item keeps
its `BEST` companions.

The cosine of a pair is the number of orders with both, divided by the square root of the product of the numbers of
orders with each (Sarwar et al., "Item-based collaborative filtering", 2001, section 3.1.1, with orders in place of
users). Its lift is the number of orders with both, divided by the number expected if the two were independent.
"""

import ibis
import ibis.expr.types as ir

from features.views.contract import ViewInput

KEY = "item_id"
WINDOW = 90
LARGEST = 100  # distinct items in an order
SEEN = 3  # orders with both items
BEST = 10

DESCRIPTIONS: dict[str, str] = {
    "bought_with_items": f"Items bought in the same orders of the last {WINDOW} days, by cosine, at most {BEST} (id).",
    "bought_with_cosine": "Of each: orders with both over the root of the product of orders with each (0 to 1).",
    "bought_with_lift": "Of each: orders with both over those expected if neither drew the other (ratio).",
    "bought_with_orders": "Of each: orders with both (count).",
}
_ORDER = ["buyer", "order_key"]


def _baskets(inputs: ViewInput) -> ir.Table:
    """Return the distinct (buyer, order_key, item_id) of orders that are not too large."""
    day, log = inputs.days.last, inputs.log
    lines = log.filter((log.event_name == "purchase") & log.item_id.notnull())
    lines = lines.filter((lines.known_day < day) & (lines.event_day >= day - WINDOW))
    lines = lines.select("order_key", KEY, buyer=lines.user_id.fill_null("")).distinct()
    sizes = lines.group_by(*_ORDER).agg(items=lines.count())
    small = sizes.filter(sizes["items"] <= LARGEST)
    return lines.semi_join(small, _ORDER)


def _pairs(baskets: ir.Table) -> ir.Table:
    """Return (item_id, other, together, cosine, lift) of the frequent pairs, in both directions."""
    orders = baskets.group_by(KEY).agg(orders=baskets.count().cast("float64"))
    often = baskets.semi_join(orders.filter(orders.orders >= SEEN), KEY)
    others = often.select(*_ORDER, other=KEY).view()
    both = often.join(others, _ORDER)
    both = both.filter(both[KEY] < both.other)
    once = both.group_by(KEY, "other").agg(together=both.count().cast("float64"))
    once = once.filter(once.together >= SEEN)
    pairs = once.union(once.select("together", item_id=once.other, other=once[KEY]).select(*once.columns))
    its, theirs = orders.rename(its="orders"), orders.select(other=KEY, theirs="orders")
    every = baskets.select(*_ORDER).distinct().agg(every=ibis._.count().cast("float64"))
    pairs = pairs.inner_join(its, KEY).inner_join(theirs, "other").cross_join(every)
    product = pairs.its * pairs.theirs
    return pairs.select(
        KEY, "other", "together", cosine=pairs.together / product.sqrt(), lift=pairs.together * pairs.every / product
    )


def build(inputs: ViewInput) -> ir.Table:
    """Return (item_id, day, lists) for each item that was bought with another, best companions first, then by ID."""
    pairs = _pairs(_baskets(inputs))
    order = ibis.window(group_by=KEY, order_by=[pairs.cosine.desc(), pairs.other])
    ranked = pairs.mutate(rank=ibis.row_number().over(order))
    ranked = ranked.filter(ranked["rank"] < BEST)
    columns = {
        "bought_with_items": ranked.other,
        "bought_with_cosine": ranked.cosine.cast("float32"),
        "bought_with_lift": ranked.lift.cast("float32"),
        "bought_with_orders": ranked.together.cast("int32"),
    }
    places = {
        f"{name}_{place}": value.max(where=ranked["rank"] == place)
        for name, value in columns.items()
        for place in range(BEST)
    }
    wide = ranked.group_by(KEY).agg(**places, length=ranked.count())
    lists = {name: ibis.array([wide[f"{name}_{place}"] for place in range(BEST)])[: wide.length] for name in columns}
    return wide.select(KEY, day=ibis.literal(inputs.days.last, "int32"), **lists)
