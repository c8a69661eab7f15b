"""Every feature of every view, in both plans, equal to the naive count on worlds that Hypothesis makes up."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.definitions import VIEWS
from features.fast import FAST_FEATURES, fast_features
from features.histories import recent_as_of
from tests.features import naive
from tests.features.conftest import catalogue_of

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 100  # longer than the longest window
_FOLDERS = itertools.count()
_MOMENTS = (timedelta(0), timedelta(hours=9), timedelta(days=1, microseconds=-1))
_DELAYS = (0, 0, 0, 1, 20 * 3600, 3 * 86_400, 95 * 86_400)  # seconds
_NAMES = ("purchase", "purchase", "view_item", "add_to_cart", "remove_from_cart", "refund", "search")


@st.composite
def worlds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to 30 events, most of them close together, at midnights, late, in orders of several lines."""
    events = []
    for number in range(draw(st.integers(1, 30))):
        day = draw(st.sampled_from([0, 1, 1, 2, 6, 7, 8, 29, 30, 88, 91, 97]))
        moment = START + timedelta(days=day) + draw(st.sampled_from(_MOMENTS))
        name = draw(st.sampled_from(_NAMES))
        priced = name in ("purchase", "refund")
        events.append(
            {
                "event_id": f"e{number:04}",
                "event_time": moment,
                "ingested_at": moment + timedelta(seconds=draw(st.sampled_from(_DELAYS))),
                "event_name": name,
                "user_id": draw(st.sampled_from(["ann", "bob", None])),
                "session_id": draw(st.sampled_from([None, "s1", "s2"])),
                "item_id": draw(st.sampled_from(["bread", "milk", "pen", "ink", None])),
                "order_id": draw(st.sampled_from(["o1", "o2", None])) if priced else None,
                "quantity": draw(st.sampled_from([1.0, 2.0, 0.375, 0.0, None])) if priced else None,
                "price": draw(st.sampled_from([None, 2.5, 0.29])) if priced else None,
                "amount": draw(st.sampled_from([None, 0.0, 2.5, 19.99])) if priced else None,
            }
        )
    return events


def _shop(new_shop: Callable[..., Any], events: list[dict[str, Any]], **features: Any) -> Any:
    """Build the features of `events`; the data begins and ends on the same days in all worlds."""
    frame = pl.DataFrame(events, schema=_SCHEMA, orient="row").sort("event_time", "event_id")
    shop = new_shop(f"world{next(_FOLDERS)}", active_days=9, **features)
    shop.put(frame, end=START + timedelta(days=DAYS), start=START)
    shop.build()
    return shop


_TIME = pl.Datetime("us", "UTC")
_SCHEMA: dict[str, Any] = {
    "event_id": pl.String, "event_time": _TIME, "ingested_at": _TIME, "event_name": pl.String, "user_id": pl.String,
    "session_id": pl.String, "item_id": pl.String, "order_id": pl.String, "quantity": pl.Float64, "price": pl.Float64,
    "amount": pl.Float64,
}  # fmt: skip
_FEW = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_FEW
@given(events=worlds())
def test_every_feature_of_every_day(
    new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, items: list[Any], events: list[Any]
) -> None:
    # The other views have a test of their own, with the columns that they read.
    monkeypatch.setattr("features.stages.VIEWS", tuple(view for view in VIEWS if view.name in naive.VIEWS))
    # Every day (running sums), the last 12 days (an opening balance), one day (conditions).
    for history, days in ((None, DAYS), (12, 12), (1, 1)):
        shop = _shop(new_shop, events, history_days=history)
        moments = [START + timedelta(days=DAYS - back) for back in range(days)]
        for view, count in naive.VIEWS.items():
            naive.compare(shop.view(view).to_dicts(), ("user_id",), count, events, items, moments, active=9)


@_FEW
@given(events=worlds(), n=st.sampled_from([1, 4, 32]), hours=st.sampled_from([0, 9, 33, 24 * 7, 24 * 100]))
def test_every_fast_feature(items: list[Any], events: list[Any], n: int, hours: int) -> None:
    frame = pl.DataFrame(events, schema=_SCHEMA, orient="row").sort("event_time", "event_id")
    content = pl.DataFrame(items, schema_overrides={"price": pl.Float64})
    moment, users = START + timedelta(hours=hours), ["ann", "bob", "nobody"]
    now = np.array([moment.replace(tzinfo=None)] * 3, dtype="datetime64[us]")
    recent = recent_as_of(frame, users, now, n, catalogue_of(frame, content))
    found = fast_features(recent, now)
    known = naive.Known.at(events, items, moment, active=9)
    for row, user in enumerate(users):
        got = {name: None if np.isnan(found[name][row]) else float(found[name][row]) for name in FAST_FEATURES}
        assert got == naive.fast(known, user, n)
