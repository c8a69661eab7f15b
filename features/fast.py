"""Fast features: a pure function of the last N events and the current time, shared by training and serving.

Money and times are summed as integers, so a row gives the same bits alone and in a batch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.recent import EVENT_CODES, RecentEvents

_HOUR = 3_600_000_000  # microseconds
_MONEY = 10_000  # integer units per unit of money
_SHOPPING = ("view_item", "add_to_cart", "purchase")

FAST_DESCRIPTIONS: dict[str, str] = {
    "fast_events": "Events among the last N that are kept (count, at most N).",
    "fast_orders": "Orders, or sessions where there is no order, among the last N events (count).",
    "fast_distinct_item_share": "Distinct items over events with an item, among the last N (share, 0 to 1).",
    "fast_hours_since_event": "Time since the last event (hours).",
    "fast_hours_since_purchase": "Time since the last purchase among the last N events (hours; missing: none).",
    "fast_events_1h": "Events in the last hour, among the last N (count).",
    "fast_events_24h": "Events in the last 24 hours, among the last N (count).",
    "fast_events_7d": "Events in the last 7 days, among the last N (count).",
    "fast_views_24h": "Items viewed in the last 24 hours, among the last N events (count).",
    "fast_carts_24h": "Additions to the cart in the last 24 hours, among the last N events (count).",
    "fast_purchases_7d": "Purchase lines in the last 7 days, among the last N events (count).",
    "fast_spend_7d": "Money of purchases in the last 7 days, among the last N events (currency of the shop).",
    "fast_last_order_events": "Events of the latest order or session (count).",
    "fast_last_order_amount": "Money of the purchases in the latest order or session (currency of the shop).",
    "fast_last_order_minutes": "From first to last event of the latest order or session (minutes).",
    "fast_order_gap_hours": "Mean time between the starts of orders or sessions (hours; missing: fewer than two).",
    "fast_gap_ratio": "Time since the latest order or session began over the mean time between them (ratio).",
}
FAST_FEATURES: tuple[str, ...] = tuple(FAST_DESCRIPTIONS)


def _ratio(top: NDArray[Any], bottom: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where `bottom` is 0 or missing."""
    top64, bottom64 = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    result: NDArray[np.float64] = np.divide(top64, bottom64, out=np.full(top64.shape, np.nan), where=bottom64 != 0)
    return result


def _distinct(items: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the distinct items in each row of (rows, n), ignoring index 0."""
    ordered = np.sort(items, axis=1)
    first = np.ones(ordered.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return np.asarray(np.count_nonzero(first & (ordered > 0), axis=1), dtype=np.int64)


def _latest(age: NDArray[np.int64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the smallest age in each row where `where` is true; NaN if it never is."""
    huge = np.iinfo(np.int64).max
    smallest = np.where(where, age, huge).min(axis=1)
    return np.where(where.any(axis=1), smallest.astype(np.float64), np.nan)


def _orders(recent: RecentEvents, age: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return features of orders and sessions; `age` (rows, n) is in microseconds."""
    last = recent.order_code == 1
    cents = np.rint(np.float64(recent.amount) * _MONEY).astype(np.int64)
    bought = recent.event_code == EVENT_CODES["purchase"]
    count = recent.order_code.max(axis=1).astype(np.int64)
    oldest = np.where(last, age, -1).max(axis=1)
    newest = _latest(age, last)
    # The oldest order may be truncated by N; its first kept event serves as its start.
    span = np.where(recent.valid, age, -1).max(axis=1) - oldest
    gap = _ratio(span, count - 1)
    started = np.where(count > 0, oldest.astype(np.float64), np.nan)
    return {
        "fast_orders": count,
        "fast_last_order_events": np.count_nonzero(last, axis=1),
        "fast_last_order_amount": np.where(last & bought, cents, 0).sum(axis=1) / _MONEY,
        "fast_last_order_minutes": (started - newest) / (_HOUR / 60),
        "fast_order_gap_hours": np.where(count > 1, gap, np.nan) / _HOUR,
        "fast_gap_ratio": _ratio(started, np.where(count > 1, gap, np.nan)),
    }


def fast_features(recent: RecentEvents, now: NDArray[np.datetime64]) -> dict[str, NDArray[np.float32]]:
    """Return every fast feature, each float32 (rows,), NaN where missing.

    Args:
        recent: The last N events of each row, all before `now`.
        now: (rows,) datetime64, UTC.
    """
    valid = recent.valid
    moment = np.asarray(now, dtype="datetime64[us]")[:, None]
    age = np.where(valid, (moment - recent.event_time).astype(np.int64), -1)  # (rows, n) microseconds
    cents = np.rint(np.float64(recent.amount) * _MONEY).astype(np.int64)
    kind = {name: recent.event_code == EVENT_CODES[name] for name in _SHOPPING}
    hour, day, week = (valid & (age <= hours * _HOUR) for hours in (1, 24, 168))
    count = valid.sum(axis=1)
    values: dict[str, NDArray[Any]] = {
        "fast_events": count,
        "fast_distinct_item_share": _ratio(_distinct(recent.item_index), (recent.item_index > 0).sum(axis=1)),
        "fast_hours_since_event": _latest(age, valid) / _HOUR,
        "fast_hours_since_purchase": _latest(age, kind["purchase"]) / _HOUR,
        "fast_events_1h": hour.sum(axis=1),
        "fast_events_24h": day.sum(axis=1),
        "fast_events_7d": week.sum(axis=1),
        "fast_views_24h": (day & kind["view_item"]).sum(axis=1),
        "fast_carts_24h": (day & kind["add_to_cart"]).sum(axis=1),
        "fast_purchases_7d": (week & kind["purchase"]).sum(axis=1),
        "fast_spend_7d": np.where(week & kind["purchase"], cents, 0).sum(axis=1) / _MONEY,
        **_orders(recent, age),
    }
    return {name: np.asarray(values[name], dtype=np.float32) for name in FAST_FEATURES}
