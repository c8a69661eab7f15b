"""Daily snapshots against numbers worked out by hand, and against a look into the future."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.definitions import COMPUTED, VIEWS
from shoplens.files import folder_digest

START = datetime(2024, 1, 1, tzinfo=UTC)
_FOLDERS = itertools.count()


def test_behaviour_by_hand(story: Any) -> None:
    # For 6 January: order o1 (2 lines, 5.00) on the 1st, a view and order o2 (1 line, 3.00) on the 5th.
    found = story.snapshot("user_behaviour", "ann", "2024-01-06")
    assert found["purchases_1d"] == 1
    assert found["purchases_7d"] == 3
    assert (found["views_1d"], found["views_7d"]) == (1, 1)
    assert (found["orders_1d"], found["orders_7d"], found["orders_ever"]) == (1, 2, 2)
    assert (found["days_active_1d"], found["days_active_7d"]) == (1, 2)
    assert (found["spend_1d"], found["spend_7d"], found["units_90d"]) == (3.0, 8.0, 4.0)
    assert found["recency_days"] == 0.5  # noon of the 5th
    assert found["tenure_days"] == pytest.approx(4 + 14 / 24)  # since the 1st, 10:00
    assert found["mean_basket_90d"] == 4.0  # 8.00 over 2 orders
    assert found["weekly_orders_90d"] == 2.0  # 2 orders; a tenure below a week counts as one week
    assert found["spend_trend"] == 3.0  # all of it in the last 30 days: three times the even share
    assert found["order_gap_days"] == pytest.approx(4 + 2 / 24)  # 1st 10:00 to 5th 12:00


def test_an_event_leaves_its_window(story: Any) -> None:
    # The 1st is inside the 7 days before 8 January (from the 1st, 00:00): still counted; there is no later snapshot.
    assert story.snapshot("user_behaviour", "ann", "2024-01-08")["purchases_7d"] == 3
    assert story.snapshot("user_behaviour", "ann", "2024-01-03")["purchases_1d"] == 0
    assert story.snapshot("user_behaviour", "ann", "2024-01-09") is None
    assert story.snapshot("user_behaviour", "ann", "2024-01-01") is None  # nothing known yet


def test_a_late_event_enters_later_snapshots_only(story: Any) -> None:
    # Bob's ink (7.00) of the 2nd is received on the 4th: unknown on the 3rd and 4th, known from the 5th.
    spend = {day: story.snapshot("user_behaviour", "bob", f"2024-01-0{day}")["spend_7d"] for day in (3, 4, 5)}
    assert spend == {3: 2.0, 4: 2.0, 5: 9.0}
    assert story.snapshot("user_behaviour", "bob", "2024-01-05")["purchases_1d"] == 0  # too old when it became known
    assert story.snapshot("user_behaviour", "bob", "2024-01-05")["orders_7d"] == 1


def test_preference_by_hand(story: Any) -> None:
    # Items met by 6 January: bread, milk (Food), pen (Office), bread (Food): Food 3 of 4. Brands: Own 3 (bread, pen,
    # bread), Farm 1. Bread is bought for the second time: 1 of 3 lines. Prices 2.50, 1.25, 3.00.
    found = story.snapshot("user_preference", "ann", "2024-01-06")
    assert (found["top_category_90d"], found["top_category_share_90d"], found["category_count_90d"]) == (
        "Food",
        0.75,
        2,
    )
    assert (found["top_brand_90d"], found["top_brand_share_90d"]) == ("Own", 0.75)
    # The prices are in the bands from 2, 1 and 2: 2 of 3.
    assert found["top_price_band_90d"] == 2
    assert found["top_price_band_share_90d"] == pytest.approx(2 / 3)
    assert found["repeat_share_90d"] == pytest.approx(1 / 3)
    assert found["mean_price_90d"] == pytest.approx(2.25)
    assert found["lines_per_order_90d"] == 1.5


def test_equal_counts_are_settled_by_the_alphabet(new_shop: Callable[..., Any]) -> None:
    shop = new_shop()
    names = ["pen", "bread"]  # Office met first, Food second: one each
    rows = [{"item_id": n, "user_id": "ann", "event_name": "view_item"} for n in names]
    shop.put(
        _frame([{**row, "event_time": START, "ingested_at": START} for row in rows]), end=START + timedelta(days=2)
    )
    shop.build()
    assert shop.snapshot("user_preference", "ann", "2024-01-02")["top_category_90d"] == "Food"


def test_profile_is_one_row_a_user_at_the_start(story: Any) -> None:
    rows = story.view("user_profile").to_dicts()
    assert [row["user_id"] for row in rows] == ["ann", "bob", "quiet"]
    assert {row["event_timestamp"] for row in rows} == {START}
    assert rows[0] == {
        "user_id": "ann",
        "event_timestamp": START,
        "registered_at": "2023-12-24T08:00:00Z",
        "gender": "f",
        "birth_year": 1980,
        "city": "Ulm",
    }


def test_a_user_at_rest_has_no_snapshot(new_shop: Callable[..., Any]) -> None:
    shop = new_shop(active_days=3)
    rows = [{"user_id": "ann", "event_time": START + timedelta(days=d, hours=6), "item_id": "pen"} for d in (0, 10)]
    shop.put(
        _frame([{**row, "ingested_at": row["event_time"], "event_name": "purchase"} for row in rows]),
        end=START + timedelta(days=12),
    )
    shop.build()
    days = [moment.day for moment in shop.view("user_behaviour")["event_timestamp"]]
    assert days == [2, 3, 4, 12, 13]  # 3 days after the 1st; from the 11th until the last midnight


def test_same_inputs_same_bytes(story: Any) -> None:
    assert {"features.json", "features.html"} < {path.name for path in story.features_dir.iterdir()}
    before = folder_digest(story.features_dir)
    story.build()
    assert folder_digest(story.features_dir) == before


def test_every_feature_is_described_with_its_unit(story: Any) -> None:
    from shoplens.files import read_json

    entries = read_json(story.features_dir / "features.json")["features"]
    columns = {
        (view, name)
        for view in (*(view.name for view in VIEWS), "user_profile", "recent_events")
        for name in story.view(view).columns
        if name not in {"user_id", "item_id", "event_timestamp"}
    }
    computed = {(view, name) for view, names in COMPUTED.items() for name in names}
    assert {(e["view"], e["name"]) for e in entries} == columns | computed
    assert {e["view"] for e in entries if e["null_share"] is None} == {"fast", "visits"}
    assert [e["name"] for e in entries if not all(e[key] for key in ("unit", "meaning", "window", "owner"))] == []


# --- a look into the future, on worlds that Hypothesis makes up (test_naive.py holds the values) ---

_SCHEMA = {
    "event_time": pl.Datetime("us", "UTC"), "ingested_at": pl.Datetime("us", "UTC"), "event_name": pl.String,
    "user_id": pl.String, "item_id": pl.String, "session_id": pl.String, "order_id": pl.String,
    "quantity": pl.Float64, "price": pl.Float64, "amount": pl.Float64, "event_id": pl.String,
}  # fmt: skip


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    filled = [
        {"event_id": f"e{n:04}", **{k: None for k in _SCHEMA if k != "event_id"}, **row} for n, row in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=_SCHEMA, orient="row").sort("event_time", "event_id")


@st.composite
def _events(draw: st.DrawFn) -> dict[str, Any]:
    # Minutes of 12 days; midnights and the moment before them are where windows go wrong.
    day = draw(st.integers(0, 11))
    moment = (
        START
        + timedelta(days=day)
        + draw(st.sampled_from([timedelta(0), timedelta(hours=9), timedelta(days=1, microseconds=-1)]))
    )
    delay = draw(st.sampled_from([timedelta(0), timedelta(0), timedelta(hours=20), timedelta(days=3)]))
    bought = draw(st.booleans())
    return {
        "event_time": moment,
        "ingested_at": moment + delay,
        "event_name": "purchase" if bought else "view_item",
        "user_id": draw(st.sampled_from(["ann", "bob"])),
        "item_id": draw(st.sampled_from(["bread", "milk", "pen", "ink"])),
        "order_id": draw(st.sampled_from(["o1", "o2"])) if bought else None,
        "quantity": 1.0 if bought else None,
        "amount": draw(st.integers(1, 999)) / 100 if bought else None,
    }


def _known(rows: list[dict[str, Any]], moment: datetime) -> list[dict[str, Any]]:
    return [row for row in rows if row["event_time"] < moment and row["ingested_at"] < moment]


_WORLDS = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_WORLDS
@given(
    rows=st.lists(_events(), min_size=2, max_size=20),
    others=st.lists(_events(), max_size=10),
    day=st.integers(2, 12),
)
def test_the_future_changes_no_snapshot(
    new_shop: Callable[..., Any], rows: list[dict[str, Any]], others: list[dict[str, Any]], day: int
) -> None:
    """Whatever happens, or is received, at T or later: snapshots up to T stay as they were."""
    moment, end = START + timedelta(days=day), START + timedelta(days=16)
    past = [{**row, "event_id": f"p{n}"} for n, row in enumerate(_known(rows, moment))]
    if not past:
        return
    views = []
    for future in (_unknown(rows, moment), _unknown(others, moment)):
        shop = new_shop(f"world{next(_FOLDERS)}")
        shop.put(_frame([*past, *future]), end=end, start=START)
        shop.build()
        views.append([shop.view(view.name).filter(pl.col("event_timestamp") <= moment) for view in VIEWS])
    for one, other in zip(*views, strict=True):
        assert one.equals(other)


def _unknown(rows: list[dict[str, Any]], moment: datetime) -> list[dict[str, Any]]:
    late = [row for row in rows if row not in _known(rows, moment)]
    return [{**row, "event_id": f"f{n}"} for n, row in enumerate(late)]


def test_the_stage_says_what_to_run_first(new_shop: Callable[..., Any]) -> None:
    from shoplens.errors import FeatureError

    shop = new_shop()
    with pytest.raises(FeatureError, match="run the stage `validate` first"):
        shop.build()
    assert not Path(shop.features_dir).exists()
