"""A description of a user in sentences, from the state in the online store."""

import math

import numpy as np

from features.catalogue import FIRST_INDEX, Catalogue
from features.online import UserState
from features.recent import EVENT_CODES

_DAY_HOURS = 24


def _number(state: UserState, name: str) -> float | None:
    value = state.features.get(name)
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _activity(state: UserState) -> list[str]:
    sentences = []
    orders, spend = _number(state, "orders_30d"), _number(state, "spend_30d")
    if orders:
        sentences.append(f"In the last 30 days: {orders:.0f} orders, {spend or 0:,.2f} spent.")
    elif orders is not None:
        sentences.append("No order in the last 30 days.")
    rate, basket = _number(state, "weekly_orders_90d"), _number(state, "mean_basket_90d")
    if rate and basket:
        sentences.append(f"Over 90 days: {rate:.1f} orders per week, {basket:,.2f} per order on average.")
    top, share = state.features.get("top_category_90d"), _number(state, "top_category_share_90d")
    if isinstance(top, str) and top:
        sentences.append(f"Buys mostly from {top}{f', {share:.0%} of order lines' if share else ''}.")
    return sentences


def _latest(state: UserState, now: np.datetime64, catalogue: Catalogue) -> list[str]:
    recent = state.recent
    valid = recent.valid[0]
    if not valid.any():
        return []
    hours = (now - recent.event_time[0][valid][-1]) / np.timedelta64(1, "h")
    age = f"{hours / _DAY_HOURS:.1f} days" if hours >= _DAY_HOURS else f"{hours:.1f} hours"
    bought = recent.item_index[0][(recent.event_code[0] == EVENT_CODES["purchase"]) & (recent.item_index[0] > 1)]
    sentences = [f"Last seen {age} before {str(now)[:16].replace('T', ' ')} UTC."]
    if len(bought):
        items, counts = np.unique(bought, return_counts=True)
        best = items[np.argsort(-counts, kind="stable")][:3]
        rows = [catalogue.frame.row(int(index) - FIRST_INDEX, named=True) for index in best]
        names = [str(row["title"] or row["item_id"]) for row in rows]
        sentences.append(f"Most frequent among the last {int(valid.sum())} events: {', '.join(names)}.")
    return sentences


def summary(state: UserState, now: np.datetime64, catalogue: Catalogue, profile_names: tuple[str, ...]) -> list[str]:
    """Return sentences that describe a user at the time `now` (UTC), from declared features of `profile_names`, too."""
    sentences = [*_latest(state, now, catalogue), *_activity(state)]
    known = {name: state.features.get(name) for name in profile_names if state.features.get(name) not in (None, "")}
    if known:
        declared = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items())
        sentences.append(f"Declared: {declared}.")
    return sentences or ["Only the ID is known: there are no recent events, orders or declarations."]
