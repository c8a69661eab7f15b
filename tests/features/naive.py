"""Every feature the slow and obvious way: loops over events, one entity and one moment at a time.

No windows, no sums that run, no engine. What is known at a moment is what was over and received before it; everything
else is counted from that list. The arithmetic of each feature is that of its description, and its number is rounded to
the type of its column, so that answers are compared bit for bit.

A view has a function `(Known, entity keys) -> features, or None where there is no snapshot`. Another module adds its
views with functions of this form, and compares them with `compare`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

Event = dict[str, Any]
Features = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WINDOWS = (1, 7, 30, 90)


@dataclass(frozen=True)
class Known:
    """What the shop knows at a moment: events before it, oldest first, and the content of items by id."""

    events: list[Event]
    items: Mapping[str, Mapping[str, Any]]
    moment: datetime
    active_days: int

    @classmethod
    def at(cls, events: Iterable[Event], items: Iterable[Mapping[str, Any]], moment: datetime, active: int) -> "Known":
        """Leave out what was not over, or not received, before `moment`."""
        past = [e for e in events if e["event_time"] < moment and e["ingested_at"] < moment]
        past.sort(key=lambda e: (e["event_time"], e["event_id"]))
        return cls(past, {item["item_id"]: item for item in items}, moment, active)

    def of(self, **keys: str) -> list[Event]:
        """Return the events of an entity."""
        return [e for e in self.events if all(e[name] == value for name, value in keys.items())]

    def inside(self, events: Iterable[Event], days: int) -> list[Event]:
        """Return the events of the last `days` days."""
        return [e for e in events if e["event_time"] >= self.moment - days * DAY]

    def days_since(self, moment: datetime) -> float:
        return micros(self.moment - moment) / micros(DAY)


def micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def f32(value: float | None) -> float | None:
    """Round to a float of four bytes."""
    return None if value is None else float(np.float32(value))


def units(value: float | None, each: int) -> int:
    """Turn an amount into whole units, halves away from zero."""
    scaled = (value or 0.0) * each
    return int(math.copysign(math.floor(abs(scaled) + 0.5), scaled))


def named(events: Iterable[Event], name: str) -> list[Event]:
    return [e for e in events if e["event_name"] == name]


def order_of(event: Event) -> str:
    return next(event[name] for name in ("order_id", "session_id", "event_id") if event[name] is not None)


def day_of(event: Event) -> date:
    moment: datetime = event["event_time"]
    return moment.date()


def orders_of(lines: Iterable[Event]) -> set[tuple[date, str]]:
    """Return the orders of purchase lines; one over midnight is two."""
    return {(day_of(e), order_of(e)) for e in lines}


def price_of(line: Event) -> float | None:
    if line["price"] is not None:
        return float(line["price"])
    return line["amount"] / line["quantity"] if line["amount"] is not None and line["quantity"] else None


def user_behaviour(known: Known, user_id: str) -> Features | None:
    mine = known.of(user_id=user_id)
    if not known.inside(mine, known.active_days):
        return None
    found: Features = {}
    money: dict[int, float] = {}
    orders: dict[int, int] = {}
    for w in WINDOWS:
        inside = known.inside(mine, w)
        bought = named(inside, "purchase")
        money[w] = sum(units(e["amount"], 10_000) for e in bought) / 10_000
        orders[w] = len(orders_of(bought))
        found[f"purchases_{w}d"] = len(bought)
        found[f"views_{w}d"] = len(named(inside, "view_item"))
        found[f"carts_{w}d"] = len(named(inside, "add_to_cart"))
        found[f"spend_{w}d"] = f32(money[w])
        found[f"orders_{w}d"] = orders[w]
        found[f"days_active_{w}d"] = len({day_of(e) for e in inside})
    recent, bought = known.inside(mine, 90), named(mine, "purchase")
    ever = len(orders_of(bought))
    tenure = known.days_since(min(e["event_time"] for e in mine))
    times = [e["event_time"] for e in bought]
    found["units_90d"] = f32(sum(units(e["quantity"], 1_000) for e in named(recent, "purchase")) / 1_000)
    found["refunds_90d"] = len(named(recent, "refund"))
    found["orders_ever"] = ever
    found["recency_days"] = f32(known.days_since(max(e["event_time"] for e in mine)))
    found["purchase_recency_days"] = f32(known.days_since(max(times)) if times else None)
    found["tenure_days"] = f32(tenure)
    found["mean_basket_90d"] = f32(money[90] / orders[90] if orders[90] else None)
    found["weekly_orders_90d"] = f32(orders[90] * 7 / max(min(tenure, 90.0), 7.0))
    found["spend_trend"] = f32(
        round(money[30] * 10_000) * 3 / round(money[90] * 10_000) if round(money[90] * 10_000) else None
    )
    gap = micros(max(times) - min(times)) / micros(DAY) / (ever - 1) if ever > 1 else None
    found["order_gap_days"] = f32(gap)
    return found


def _top(met: Counter[str]) -> tuple[str | None, float | None, int]:
    """Return the most frequent value, the first by the alphabet among equals, its share, and how many there are."""
    if not met:
        return None, None, 0
    best = min(met, key=lambda value: (-met[value], value.encode()))
    return best, f32(met[best] / met.total()), len(met)


NOT_LIKED = ("refund", "remove_from_cart")
BANDS = [float(f"{step}e{power}") for power in range(-2, 8) for step in (1, 2, 5)]


def band_of(price: float) -> float:
    """Return the lower end of a price's band."""
    return max((end for end in BANDS if units(price, 10_000) >= units(end, 10_000)), default=0.0)


def user_preference(known: Known, user_id: str) -> Features | None:
    mine = known.of(user_id=user_id)
    if not known.inside(mine, known.active_days):
        return None
    recent = known.inside(mine, 90)
    liked = [e for e in recent if e["event_name"] not in NOT_LIKED and e["item_id"] is not None]
    content = [known.items.get(e["item_id"], {}) for e in liked]
    categories = Counter(item["category"].split(" > ")[0] for item in content if item.get("category"))
    brands = Counter(item["brand"] for item in content if item.get("brand"))
    found: Features = {}
    category, brand = _top(categories), _top(brands)
    found["top_category_90d"], found["top_category_share_90d"], found["category_count_90d"] = category
    found["top_brand_90d"], found["top_brand_share_90d"] = brand[:2]
    priced = [price_of(e) for e in recent if e["event_name"] not in NOT_LIKED and price_of(e) is not None]
    bands = Counter(band_of(price) for price in priced)
    most = min(bands, key=lambda band: (-bands[band], band)) if bands else None
    found["top_price_band_90d"] = f32(most)
    found["top_price_band_share_90d"] = f32(bands[most] / len(priced) if bands else None)
    lines = named(recent, "purchase")
    prices = [units(price_of(e), 10_000) for e in lines if price_of(e) is not None]
    # "Before" is the order in which the shop came to know of lines.
    arrived = sorted(
        named(mine, "purchase"),
        key=lambda e: (max(e["event_time"], e["ingested_at"]), e["event_time"], e["event_id"]),
    )
    first = {item: next(e for e in arrived if e["item_id"] == item) for item in {e["item_id"] for e in arrived}}
    again = [e for e in lines if first[e["item_id"]] is not e]
    found["mean_price_90d"] = f32(sum(prices) / 10_000 / len(prices) if prices else None)
    found["lines_per_order_90d"] = f32(len(lines) / len(orders_of(lines)) if lines else None)
    found["repeat_share_90d"] = f32(len(again) / len(lines) if lines else None)
    return found


VIEWS: dict[str, Callable[..., Features | None]] = {
    "user_behaviour": user_behaviour,
    "user_preference": user_preference,
}


def fast(known: Known, user_id: str, n: int) -> Features:
    """Every fast feature of the last `n` events that are known of a user; None where missing."""
    last = known.of(user_id=user_id)[-n:]
    ages = [micros(known.moment - e["event_time"]) for e in last]
    hour = micros(timedelta(hours=1))

    def young(hours: int, name: str | None = None) -> list[Event]:
        return [e for e, age in zip(last, ages, strict=True) if age <= hours * hour and name in (None, e["event_name"])]

    def cents(events: Iterable[Event]) -> int:
        # The list keeps amounts as floats of four bytes.
        return sum(round(float(np.float32(e["amount"] or 0.0)) * 10_000) for e in events)

    runs: list[list[Event]] = []
    for e in last:
        key = e["order_id"] or e["session_id"] or ""
        if runs and (runs[-1][0]["order_id"] or runs[-1][0]["session_id"] or "") == key:
            runs[-1].append(e)
        else:
            runs.append([e])
    bought = [age for e, age in zip(last, ages, strict=True) if e["event_name"] == "purchase"]
    with_item = [e["item_id"] for e in last if e["item_id"] is not None]
    latest = runs[-1] if runs else []
    started = micros(known.moment - latest[0]["event_time"]) if latest else None
    gap = None
    if len(runs) > 1 and started is not None:
        gap = (max(ages) - started) / (len(runs) - 1)
    found: Features = {
        "fast_events": len(last),
        "fast_orders": len(runs),
        "fast_distinct_item_share": len(set(with_item)) / len(with_item) if with_item else None,
        "fast_hours_since_event": min(ages) / hour if ages else None,
        "fast_hours_since_purchase": min(bought) / hour if bought else None,
        "fast_events_1h": len(young(1)),
        "fast_events_24h": len(young(24)),
        "fast_events_7d": len(young(168)),
        "fast_views_24h": len(young(24, "view_item")),
        "fast_carts_24h": len(young(24, "add_to_cart")),
        "fast_purchases_7d": len(young(168, "purchase")),
        "fast_spend_7d": cents(young(168, "purchase")) / 10_000,
        "fast_last_order_events": len(latest),
        "fast_last_order_amount": cents(named(latest, "purchase")) / 10_000,
        "fast_last_order_minutes": micros(latest[-1]["event_time"] - latest[0]["event_time"]) / (hour / 60)
        if latest
        else None,
        "fast_order_gap_hours": gap / hour if gap is not None else None,
        "fast_gap_ratio": started / gap if gap and started is not None else None,
    }
    return {name: f32(value) for name, value in found.items()}


def compare(
    rows: Iterable[Mapping[str, Any]],
    keys: tuple[str, ...],
    naive: Callable[..., Features | None],
    events: list[Event],
    items: list[Mapping[str, Any]],
    moments: Iterable[datetime],
    active: int,
) -> int:
    """Compare a view's rows with the naive answer for every entity and moment; return how many values were equal.

    Args:
        rows: The file of the view: keys, event_timestamp, features.
        keys: Columns of the entity.
        naive: The view's function.
        events: All events, known or not.
        items: As the shop tells them.
        moments: Which snapshots the file must hold, and no other.
        active: `features.active_days`.
    """
    found = {(*(row[name] for name in keys), row["event_timestamp"]): row for row in rows}
    entities = {tuple(e[name] for name in keys) for e in events if all(e[name] is not None for name in keys)}
    equal, expected = 0, set()
    for moment in moments:
        known = Known.at(events, items, moment, active)
        for entity in entities:
            wanted = naive(known, *entity)
            if wanted is None:
                continue
            expected.add((*entity, moment))
            row = found.get((*entity, moment))
            assert row is not None, f"{entity} has no snapshot for {moment}"
            got = {name: value for name, value in row.items() if name not in (*keys, "event_timestamp")}
            assert got == wanted, f"{entity} at {moment}"
            equal += len(wanted)
    assert set(found) == expected
    return equal
