"""Features of items, the slow and obvious way (see `tests.features.naive`)."""

import math
from collections import Counter
from itertools import combinations

from features.views.item_pairs import BEST, LARGEST, SEEN
from tests.features.naive import Features, Known, f32, named, order_of, units


def item_activity(known: Known, item_id: str) -> Features | None:
    its = known.of(item_id=item_id)
    week, month = (known.inside(its, days) for days in (7, 28))
    if not week:
        return None
    bought, views = named(month, "purchase"), named(month, "view_item")
    stars = [units(e["rating"], 1_000) for e in named(its, "review") if e["rating"] is not None]
    lines = named(its, "purchase")
    return {
        "item_trend": f32(len(week) * 28 / (len(month) * 7)),
        "item_sales_trend": f32(len(named(week, "purchase")) * 28 / (len(bought) * 7) if bought else None),
        "item_views_28d": len(views),
        "item_conversion_28d": f32(len(bought) / len(views) if views else None),
        "item_buyers_28d": len({e["user_id"] for e in bought} - {None}),
        "item_ratings_ever": len(stars),
        "item_mean_rating_ever": f32(sum(stars) / (len(stars) * 1_000) if stars else None),
        "item_return_share_ever": f32(len(named(its, "refund")) / len(lines) if lines else None),
    }


def _baskets(known: Known) -> list[set[str]]:
    """Return the items of every order of the last 90 days that is not too large."""
    found: dict[tuple[str, str], set[str]] = {}
    for e in named(known.inside(known.events, 90), "purchase"):
        if e["item_id"] is not None:
            found.setdefault((e["user_id"] or "", order_of(e)), set()).add(e["item_id"])
    return [items for items in found.values() if len(items) <= LARGEST]


def item_pairs(known: Known, item_id: str) -> Features | None:
    baskets = _baskets(known)
    orders = Counter(item for items in baskets for item in items)
    together = Counter(
        other
        for items in baskets
        for pair in combinations(items, 2)
        if item_id in pair
        for other in {*pair} - {item_id}
    )
    cosine = {o: n / math.sqrt(orders[item_id] * orders[o]) for o, n in together.items() if n >= SEEN}
    best = sorted(cosine, key=lambda other: (-cosine[other], other.encode()))[:BEST]
    if not best:
        return None
    lift = {o: together[o] * len(baskets) / (orders[item_id] * orders[o]) for o in best}
    return {
        "bought_with_items": best,
        "bought_with_cosine": [f32(cosine[other]) for other in best],
        "bought_with_lift": [f32(lift[other]) for other in best],
        "bought_with_orders": [together[other] for other in best],
    }
