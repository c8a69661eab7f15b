"""Daily snapshots of what a user likes: the category and brand met most, and habits of buying."""

import ibis
import ibis.expr.types as ir

from features.windows import MONEY_UNITS, Measure, column, side_by_side, span_days, trailing

KEY = "user_id"
WINDOW = 90

DESCRIPTIONS: dict[str, str] = {
    "top_category_90d": "Top-level category of most of the user's events with an item in the last 90 days (name).",
    "top_category_share_90d": "Share of that category among those events (share, 0 to 1).",
    "category_count_90d": "Top-level categories among those events (count).",
    "top_brand_90d": "Brand of most of the user's events with an item in the last 90 days (name).",
    "top_brand_share_90d": "Share of that brand among the events whose item has a brand (share, 0 to 1).",
    "mean_price_90d": "Price paid for one piece, mean over purchase lines of the last 90 days (currency of the shop).",
    "lines_per_order_90d": "Purchase lines an order in the last 90 days (lines an order).",
    "repeat_share_90d": "Share of purchase lines in the last 90 days whose item the user had bought before (0 to 1).",
}
_NOT_LIKED = ("refund", "remove_from_cart")


def _top(content: ir.Table, name: str, last_day: int) -> ir.Table:
    """Return (user_id, day, top value, its count, count of all, count of values) of a content column by day.

    Equal counts are settled by the alphabet.
    """
    known = content.filter(content[name].notnull())
    ranks = known.select(name).distinct()
    ranks = ranks.mutate(rank=ibis.row_number().over(ibis.window(order_by=name)).cast("float64"))
    lines = known.group_by(KEY, name, "event_day", "known_day").agg(met=known.count().cast("float64"))
    lines = lines.join(ranks, name).mutate(pair=ibis._[KEY].concat("\x1f", ibis._.rank.cast("int64").cast("string")))
    owners = lines.select("pair", KEY, "rank").distinct()
    met = column("met", WINDOW)
    sums = trailing("pair", span_days("pair", lines, WINDOW, last_day), Measure(lines, {"met": (WINDOW,)}))
    sums = sums.filter(sums[met] > 0).join(owners, "pair")
    # Largest count first, smallest rank among equals, in one number: counts are whole, 1e6 bounds the distinct values.
    best = sums.group_by(KEY, "day").agg(
        best=(sums[met] * 1_000_000 - sums["rank"]).max(), total=sums[met].sum(), values=sums.count()
    )
    top = best.mutate(count=((best.best / 1_000_000).ceil()))
    top = top.mutate(rank=top["count"] * 1_000_000 - top.best)
    return top.join(ranks, "rank").select(KEY, "day", "count", "total", "values", top=ibis._[name])


def _habits(log: ir.Table, last_day: int) -> ir.Table:
    """Return running sums of purchases: lines, repeats, orders and prices."""
    bought = log.filter(log.event_name == "purchase")
    # "Bought before" in the order in which lines became known: a line that arrives late changes no earlier answer.
    arrival = ibis.window(group_by=[KEY, "item_id"], order_by=["known_us", "event_us", "event_id"])
    bought = bought.mutate(
        again=(ibis.row_number().over(arrival) > 0).cast("float64"), priced=bought.price.notnull().cast("float64")
    )
    by_day = bought.group_by(KEY, "event_day", "known_day").agg(
        lines=bought.count().cast("float64"),
        again=bought.again.sum(),
        priced=bought.priced.sum(),
        prices=bought.price.fill_null(0.0).sum(),
    )
    orders = bought.group_by(KEY, "event_day", "order_key").agg(known_day=bought.known_day.min()).mutate(orders=1.0)
    table = side_by_side(KEY, {"lines again priced prices": by_day, "orders": orders})
    return trailing(
        KEY,
        span_days(KEY, bought, WINDOW, last_day),
        Measure(table, dict.fromkeys(("lines", "again", "priced", "prices", "orders"), (WINDOW,))),
    )


def user_preference(log: ir.Table, catalogue: ir.Table, days: ir.Table, last_day: int) -> ir.Table:
    """Return a row (user_id, day, features) for every row of `days` (user_id, day).

    Args:
        log: As `read_log` gives it.
        catalogue: item_id, category_1, brand.
        days: The users and days that get a snapshot.
        last_day: The last day (since 1970) that gets a snapshot.
    """
    content = log.filter(log.event_name.notin(_NOT_LIKED)).join(
        catalogue.select("item_id", "category_1", "brand"), "item_id"
    )
    on = [KEY, "day"]
    category, brand = (_top(content, name, last_day) for name in ("category_1", "brand"))
    t = days.select(*on).left_join(category, on).drop("user_id_right", "day_right")
    t = t.left_join(brand, on, rname="brand_{name}").drop("brand_user_id", "brand_day")
    t = t.left_join(_habits(log, last_day), on).drop("user_id_right", "day_right")
    lines = t.lines_90d.nullif(0.0)
    values = {
        "top_category_90d": t.top,
        "top_category_share_90d": (t["count"] / t.total).cast("float32"),
        "category_count_90d": t["values"].fill_null(0).cast("int32"),
        "top_brand_90d": t.brand_top,
        "top_brand_share_90d": (t.brand_count / t.brand_total).cast("float32"),
        "mean_price_90d": (t.prices_90d / MONEY_UNITS / t.priced_90d.nullif(0.0)).cast("float32"),
        "lines_per_order_90d": (lines / t.orders_90d).cast("float32"),
        "repeat_share_90d": (t.again_90d / lines).cast("float32"),
    }
    return t.select(*on, **{name: values[name] for name in DESCRIPTIONS})
