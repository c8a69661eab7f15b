"""Sessions, search and reviews, in both plans, equal to the naive count on worlds that Hypothesis makes up."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.contract import EVENT_SCHEMA
from features.definitions import VIEWS
from tests.features import naive, naive_views

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 100  # longer than the longest window
_FOLDERS = itertools.count()
_MOMENTS = (timedelta(0), timedelta(hours=9), timedelta(hours=9, minutes=7), timedelta(days=1, microseconds=-1))
_DELAYS = (0, 0, 0, 20 * 3600, 3 * 86_400, 95 * 86_400)  # seconds
_NAMES = ("search", "search", "select_item", "view_item", "add_to_cart", "purchase", "review")


@st.composite
def worlds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to 30 events, most of them close together, at midnights, late, in sessions that may last for months."""
    events = []
    for number in range(draw(st.integers(1, 30))):
        day = draw(st.sampled_from([0, 1, 1, 2, 7, 8, 29, 30, 88, 91, 97]))
        moment = START + timedelta(days=day) + draw(st.sampled_from(_MOMENTS))
        name = draw(st.sampled_from(_NAMES))
        row: dict[str, Any] = dict.fromkeys(EVENT_SCHEMA)
        row |= {
            "event_id": f"e{number:04}",
            "event_time": moment,
            "ingested_at": moment + timedelta(seconds=draw(st.sampled_from(_DELAYS))),
            "event_name": name,
            "user_id": draw(st.sampled_from(["ann", "ann", "bob", None])),
            "session_id": draw(st.sampled_from([None, "s1", "s1", "s2"])),
            "platform": draw(st.sampled_from([None, "web", "ios", "Store"])),
        }
        if name == "search":
            row["query"] = draw(st.sampled_from(["pen", "ink", "Ärmel", None]))
            row["results"] = draw(st.sampled_from([None, "pen,ink", "milk, pen"]))
            row["list_id"] = draw(st.sampled_from([None, "l1"]))
        elif name == "review":
            row["rating"] = draw(st.sampled_from([None, 1.0, 2.0, 2.5, 5.0]))
            row["text"] = draw(st.sampled_from([None, "Broken, terrible!", "Great, I love it.", "A pen."]))
        else:
            row["item_id"] = draw(st.sampled_from(["pen", "ink", "milk", None]))
        if name in ("select_item", "view_item"):
            row["position"] = draw(st.sampled_from([None, 1, 3]))
            row["list_id"] = draw(st.sampled_from([None, "l1", "l2"]))
            row["dwell_seconds"] = draw(st.sampled_from([None, 2.5, 0.125]))
        events.append(row)
    return events


_FEW = settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_FEW
@given(events=worlds())
def test_every_feature_of_every_day(
    new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, items: list[Any], events: list[Any]
) -> None:
    # Of the stage's views those with a count here: the others have their own test.
    monkeypatch.setattr("features.stages.VIEWS", tuple(view for view in VIEWS if view.name in naive_views.VIEWS))
    frame = pl.DataFrame(events, schema=EVENT_SCHEMA, orient="row").sort("event_time", "event_id")
    for history, days in ((None, DAYS), (1, 1)):
        shop = new_shop(f"world{next(_FOLDERS)}", active_days=9, history_days=history)
        shop.put(frame, end=START + timedelta(days=DAYS), start=START)
        shop.build()
        moments = [START + timedelta(days=DAYS - back) for back in range(days)]
        for view, count in naive_views.VIEWS.items():
            naive.compare(shop.view(view).to_dicts(), ("user_id",), count, events, items, moments, active=9)
