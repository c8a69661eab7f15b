"""Views of items: by hand, and equal to a naive count on worlds that Hypothesis makes up."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.definitions import VIEWS
from features.views.windows import Days
from tests.features import naive, naive_items
from tests.features.conftest import event
from tests.features.one_view import rows_of

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
    for first in (1, DAYS):
        _compared("item_pairs", tmp_path, events, items, first, [START + timedelta(days=DAYS)])


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
