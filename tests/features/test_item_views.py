"""Views of items, and of users and items: by hand, and equal to a naive count on worlds that Hypothesis makes up."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.as_of import rows_as_of
from features.definitions import VIEWS
from features.windows import Days
from shoplens.errors import FeatureError
from tests.features import naive, naive_items
from tests.features.conftest import at, event
from tests.features.one_view import put, rows_of

START = datetime(2024, 1, 1, tzinfo=UTC)
FIRST = 19_723  # 2024-01-01 in days since 1970
DAYS = 100
ACTIVE = 9
VIEW = {view.name: view for view in VIEWS}
_MOMENTS = (timedelta(0), timedelta(hours=9), timedelta(days=1, microseconds=-1))
_DELAYS = (0, 0, 0, 1, 20 * 3600, 3 * 86_400, 95 * 86_400)  # seconds
_NAMES = ("purchase", "purchase", "purchase", "view_item", "refund", "review", "search")
_FEW = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def worlds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to 60 events, most of them purchases of four items in few orders; at midnights, some late."""
    events = []
    for number in range(draw(st.integers(1, 60))):
        day = draw(st.sampled_from([0, 1, 9, 10, 11, 29, 69, 70, 71, 72, 88, 91, 97]))
        moment = START + timedelta(days=day) + draw(st.sampled_from(_MOMENTS))
        name = draw(st.sampled_from(_NAMES))
        events.append(
            {
                "event_id": f"e{number:04}",
                "event_time": moment,
                "ingested_at": moment + timedelta(seconds=draw(st.sampled_from(_DELAYS))),
                "event_name": name,
                "user_id": draw(st.sampled_from(["ann", "bob", None])),
                "session_id": draw(st.sampled_from([None, "s1"])),
                "item_id": draw(st.sampled_from(["bread", "milk", "pen", "ink", None])),
                "order_id": draw(st.sampled_from(["o1", "o2", "o3", None])) if name == "purchase" else None,
                "quantity": draw(st.sampled_from([1.0, 0.375, None])) if name == "purchase" else None,
                "rating": draw(st.sampled_from([5.0, 3.5, 0.0, None])) if name == "review" else None,
            }
        )
    return events


def _compared(name: str, folder: Path, events: list[Any], items: list[Any], first: int, moments: list[datetime]) -> int:
    """Compare the view's file for the days from START + `first` to the last with the naive count."""
    rows = rows_of(VIEW[name], folder, events, Days(FIRST + first, FIRST + DAYS), ACTIVE)
    return naive.compare(rows, VIEW[name].keys, getattr(naive_items, name), events, items, moments, ACTIVE)


@_FEW
@given(events=worlds())
def test_activity_of_every_week(tmp_path: Path, items: list[Any], events: list[Any]) -> None:
    # Every day (running sums), the last 20 days (an opening balance), one day (conditions).
    for first in (1, DAYS - 19, DAYS):
        moments = [START + timedelta(days=day) for day in range(DAYS, first - 1, -7)]
        _compared("item_activity", tmp_path, events, items, first, moments)


@_FEW
@given(events=worlds())
def test_pairs_of_the_last_day(tmp_path: Path, items: list[Any], events: list[Any]) -> None:
    for name in ("item_pairs", "user_item"):
        for first in (1, DAYS):
            _compared(name, tmp_path, events, items, first, [START + timedelta(days=DAYS)])


@_FEW
@given(events=worlds(), days=st.lists(st.sampled_from([1, 10, 72, 92, 100]), min_size=1, max_size=3, unique=True))
def test_pairs_as_they_were(tmp_path: Path, items: list[Any], events: list[Any], days: list[int]) -> None:
    moments = [START + timedelta(days=day) for day in days]
    asked = pl.DataFrame(
        {
            # Ann is asked about at four in the morning: the last snapshot is the one at midnight.
            "user_id": ["ann"] * len(days) + ["nobody"],
            "event_timestamp": [moment + timedelta(hours=4) for moment in moments] + moments[:1],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    found = rows_as_of(VIEW["user_item"], asked, *put(tmp_path, events), active_days=ACTIVE)
    rows = [{**row, "event_timestamp": row["event_timestamp"] - timedelta(hours=4)} for row in found.to_dicts()]
    hers = [e for e in events if e["user_id"] == "ann"]
    naive.compare(rows, ("user_id", "item_id"), naive_items.user_item, hers, items, moments, ACTIVE)


def _basket(order: int, user: str, *items: str, day: str = "2024-03-01 10:00") -> list[dict[str, Any]]:
    return [
        {**event(user, day, item_id=item, order_id=f"o{order}"), "event_id": f"e{order}-{place}"}
        for place, item in enumerate(items)
    ]


def _companions(folder: Path, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    days = Days(FIRST + 70, FIRST + 70)  # 11 March
    return {row["item_id"]: row for row in rows_of(VIEW["item_pairs"], folder, rows, days, ACTIVE)}


def test_companions_by_hand(tmp_path: Path) -> None:
    rows = [row for n in range(3) for row in _basket(n, "ann", "bread", "milk")]
    rows += [row for n in range(3, 6) for row in _basket(n, "bob", "bread", "milk", "pen")]
    rows += [*_basket(6, "bob", "bread"), *_basket(7, "ann", "ink", "pen")]
    found = _companions(tmp_path, rows)
    # Of 8 orders bread is in 7, milk in 6, pen in 4; bread and milk are together in 6, each of them with pen in 3.
    bread = found["bread"]
    assert bread["bought_with_items"] == ["milk", "pen"]
    assert bread["bought_with_orders"] == [6, 3]
    assert bread["bought_with_cosine"] == pytest.approx([6 / (7 * 6) ** 0.5, 3 / (7 * 4) ** 0.5])
    assert bread["bought_with_lift"] == pytest.approx([6 * 8 / (7 * 6), 3 * 8 / (7 * 4)])
    assert "ink" not in found  # with pen once: that is chance


def test_ten_companions_are_kept_and_equal_ones_go_by_id(tmp_path: Path) -> None:
    items = [f"i{n:02}" for n in range(13)]
    found = _companions(tmp_path, [row for n in range(3) for row in _basket(n, "ann", *items)])
    assert found["i05"]["bought_with_items"] == [item for item in items if item != "i05"][:10]
    assert found["i05"]["bought_with_cosine"] == [1.0] * 10


def test_an_order_of_more_than_a_hundred_items_pairs_none(tmp_path: Path) -> None:
    items = [f"i{n:03}" for n in range(101)]
    orders = [row for n in range(3) for row in _basket(n, "ann", *items)]
    assert _companions(tmp_path, orders) == {}
    assert len(_companions(tmp_path, [row for row in orders if row["item_id"] != "i000"])) == 100


def test_repeat_buying_by_hand(tmp_path: Path) -> None:
    rows = [
        *_basket(1, "ann", "milk", day="2023-11-01 12:00"),
        *_basket(2, "ann", "milk", "pen", day="2024-02-20 12:00"),
        *_basket(3, "ann", "milk", day="2024-03-06 00:00"),
        {**event("ann", "2024-03-08 06:00", "view_item", item_id="ink"), "event_id": "v"},
    ]
    found = {row["item_id"]: row for row in rows_of(VIEW["user_item"], tmp_path, rows, Days(FIRST, FIRST + 70), ACTIVE)}
    # On 11 March: three orders from 1 November 12:00 to 6 March, 125.5 days; the last is 5 days ago.
    assert found["milk"] == {
        "user_id": "ann", "item_id": "milk", "event_timestamp": at("2024-03-11"), "pair_orders_ever": 3,
        "pair_units_90d": 0.0, "pair_recency_days": 5.0, "pair_gap_days": 62.75, "pair_due": pytest.approx(5 / 62.75),
        "pair_views_30d": 0,
    }  # fmt: skip
    assert (found["pen"]["pair_orders_ever"], found["pen"]["pair_gap_days"]) == (1, None)
    ink = found["ink"]
    assert (ink["pair_orders_ever"], ink["pair_recency_days"], ink["pair_views_30d"]) == (0, None, 1)


def test_as_of_says_what_lacks(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"keys: must have user_id and event_timestamp; lacks \['event_timestamp'\]"):
        rows_as_of(VIEW["user_item"], pl.DataFrame({"user_id": ["ann"]}), tmp_path, tmp_path, ACTIVE)
