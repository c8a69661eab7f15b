"""Recent events and fast features: by hand, and the same from the log, from one row and from the store's lists."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.catalogue import Catalogue
from features.fast import FAST_FEATURES, fast_features
from features.histories import history_of_lists, recent_as_of
from features.recent import EVENT_CODES, RecentEvents
from shoplens.errors import FeatureError
from tests.features.conftest import at, catalogue_of, event, log

BUY, VIEW = EVENT_CODES["purchase"], EVENT_CODES["view_item"]


@pytest.fixture
def events(story: Any) -> pl.DataFrame:
    return pl.read_parquet(story.validated / "events.parquet")


@pytest.fixture
def catalogue(story: Any) -> Catalogue:
    return Catalogue.load(story.features_dir / "catalogue.parquet")


def _moments(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[us]")


def test_catalogue_numbers_items_by_id(catalogue: Catalogue) -> None:
    # bread 2, ink 3, milk 4, pen 5; 0 is no item, 1 unknown.
    assert catalogue.size == 6
    assert catalogue.index_of(["pen", None, "", "comet", "bread"]).tolist() == [5, 0, 0, 1, 2]
    assert catalogue.item_id(3) == "ink"
    assert catalogue.frame["category_1"].to_list() == ["Food", None, "Food", "Office"]
    assert catalogue.frame["category_1_code"].to_list() == [1, 0, 1, 2]
    assert catalogue.frame["brand_code"].to_list() == [2, 0, 1, 2]  # Farm 1, Own 2
    # Prices: bread 2.50 (its first), ink 7, milk 1.25, pen 2 (its list price). Places 2, 3, 0, 1 of 4, in tenths.
    assert catalogue.frame["price_band"].to_list() == [6, 8, 1, 3]
    with pytest.raises(FeatureError, match="2 to 5; received 1"):
        catalogue.item_id(1)


def test_catalogue_has_items_that_only_events_know(events: pl.DataFrame) -> None:
    nothing = pl.DataFrame(
        schema={
            "item_id": pl.String,
            "category": pl.String,
            "brand": pl.String,
            "title": pl.String,
            "price": pl.Float64,
        }
    )
    assert catalogue_of(events, nothing).frame["item_id"].to_list() == ["bread", "ink", "milk", "pen"]


NO_CONTENT = pl.DataFrame(
    schema={**dict.fromkeys(("item_id", "category", "brand", "title"), pl.String), "price": pl.Float64}
)


def _priced(*prices: tuple[str, str, float | None]) -> pl.DataFrame:
    """Events of (day of January, item, price)."""
    return log(event("ann", f"2024-01-{day} 10:00", item_id=item, price=price) for day, item, price in prices)


def test_price_bands_rank_among_the_items_known_at_the_limit() -> None:
    known = (("01", "a", 1.0), ("02", "b", 2.0), ("03", "c", 3.0), ("04", "d", 4.0))
    later = (("06", "e", 1.5), ("07", "f", 0.1), ("08", "g", 99.0), ("09", "a", 50.0))
    limit = at("2024-01-05 00:00")
    before, after = (
        dict(catalogue_of(_priced(*rows), NO_CONTENT, limit).frame.select("item_id", "price_band").iter_rows())
        for rows in (known, known + later)
    )
    assert before == {"a": 1, "b": 3, "c": 6, "d": 8}
    # 1.5 is above one price of four, .1 above none and 99 above all.
    assert after == before | {"e": 3, "f": 1, "g": 10}, "later items are placed among the known, and move none of them"


@pytest.mark.parametrize(
    ("rows", "band"),
    [
        pytest.param([("01", "b", None), ("04", "b", 2.0)], 6, id="known before the limit"),
        pytest.param([("01", "b", None), ("06", "b", 2.0)], 0, id="a price that came after item and limit is unknown"),
        pytest.param([("06", "b", 2.0), ("07", "b", 0.5)], 10, id="the price of a new item's first event"),
        pytest.param([("06", "b", None), ("07", "b", 2.0)], 0, id="a new item that was seen without a price"),
    ],
)
def test_a_price_band_knows_no_price_of_later(rows: list, band: int) -> None:
    found = catalogue_of(_priced(("01", "a", 1.0), *rows), NO_CONTENT, at("2024-01-05 00:00")).frame
    assert found["price_band"].to_list() == [1, band]


def test_a_price_that_is_received_after_the_limit_moves_no_band() -> None:
    late = event("ann", "2024-01-01 10:00", item_id="a", price=9.0, ingested="2024-01-06 10:00")
    events = log([late, event("bob", "2024-01-02 10:00", item_id="b", price=5.0)])
    found = catalogue_of(events, NO_CONTENT, at("2024-01-05 00:00")).frame
    assert found["price_band"].to_list() == [10, 1]


def test_recent_events_as_of_a_moment(events: pl.DataFrame, catalogue: Catalogue) -> None:
    users = np.array(["ann", "ann", "bob", "bob", "nobody"])
    times = _moments("2024-01-05T12:00", "2024-01-06", "2024-01-04", "2024-01-04T15:00:01", "2024-01-06")
    recent = recent_as_of(events, users, times, 4, catalogue)
    # An event at exactly t is not known at t; Bob's ink is received on the 4th at 15:00.
    assert recent.item_index.tolist() == [[0, 2, 4, 5], [2, 4, 5, 2], [0, 0, 0, 5], [0, 0, 5, 3], [0, 0, 0, 0]]
    assert recent.event_code.tolist()[1] == [BUY, BUY, VIEW, BUY]
    assert recent.order_code.tolist()[1] == [3, 3, 2, 1]  # o1, o1, the session, o2
    assert recent.amount.tolist()[1] == [2.5, 2.5, 0.0, 3.0]
    assert np.isnat(recent.event_time[4]).all()
    assert recent.valid.sum(axis=1).tolist() == [3, 4, 1, 2, 0]


def test_a_late_event_is_put_where_it_happened(events: pl.DataFrame, catalogue: Catalogue) -> None:
    first = events.filter(pl.col("event_id") == "e0000").with_columns(
        ingested_at=pl.col("event_time") + timedelta(days=2)
    )
    late = pl.concat([first, events.filter(pl.col("event_id") != "e0000")])
    recent = recent_as_of(late, ["ann", "ann"], _moments("2024-01-02", "2024-01-06"), 4, catalogue)
    assert recent.item_index.tolist() == [[0, 0, 0, 4], [2, 4, 5, 2]]


def test_tail_and_take_keep_what_orders_mean(events: pl.DataFrame, catalogue: Catalogue) -> None:
    recent = recent_as_of(events, ["ann", "bob"], _moments("2024-01-06", "2024-01-06"), 4, catalogue)
    assert recent.tail(2).order_code.tolist() == [[2, 1], [1, 1]]
    assert recent.take(np.array([1])).item_index.tolist() == [[0, 0, 5, 3]]
    with pytest.raises(FeatureError, match="from 1 to 4"):
        recent.tail(5)


def test_fast_features_by_hand(events: pl.DataFrame, catalogue: Catalogue) -> None:
    # Ann on the 6th at 12:00: o1 (2 lines, 5.00) 122 h ago, a view 27 h ago, o2 (3.00) 24 h ago.
    recent = recent_as_of(events, ["ann"], _moments("2024-01-06T12:00"), 5, catalogue)
    found = {name: float(v[0]) for name, v in fast_features(recent, _moments("2024-01-06T12:00")).items()}
    assert found == {
        "fast_events": 4,
        "fast_orders": 3,  # o1, the session, o2
        "fast_distinct_item_share": 0.75,  # bread, milk, pen of 4
        "fast_hours_since_event": 24,
        "fast_hours_since_purchase": 24,
        "fast_events_1h": 0,
        "fast_events_24h": 1,
        "fast_events_7d": 4,
        "fast_views_24h": 0,
        "fast_carts_24h": 0,
        "fast_purchases_7d": 3,
        "fast_spend_7d": 8,
        "fast_last_order_events": 1,
        "fast_last_order_amount": 3,
        "fast_last_order_minutes": 0,
        "fast_order_gap_hours": 49,  # (122 - 24) / 2
        "fast_gap_ratio": pytest.approx(24 / 49),
    }


def test_nothing_known_gives_missing_not_zero(catalogue: Catalogue) -> None:
    empty = history_of_lists([], [], [], [], [], [], 5, catalogue).window(5)
    found = fast_features(empty, _moments("2024-01-06"))
    missing = {name for name, value in found.items() if np.isnan(value[0])}
    assert missing == {
        "fast_distinct_item_share", "fast_hours_since_event", "fast_hours_since_purchase",
        "fast_last_order_minutes", "fast_order_gap_hours", "fast_gap_ratio",
    }  # fmt: skip
    assert all(value[0] == 0 for name, value in found.items() if name not in missing)


def _random_log(users: int, rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    second = rng.integers(0, 20 * 86_400, rows)
    start = pl.datetime(2024, 1, 1, time_zone="UTC", time_unit="us")
    return pl.DataFrame(
        {
            "event_id": [f"e{n:05}" for n in range(rows)],
            "user_id": [f"u{n}" for n in rng.integers(0, users, rows)],
            "event_name": rng.choice(["purchase", "view_item", "add_to_cart"], rows).tolist(),
            "item_id": rng.choice(["a", "b", "c", ""], rows).tolist(),
            "order_id": [None if n == 0 else f"o{n}" for n in rng.integers(0, 9, rows)],
            "session_id": [f"s{n}" for n in rng.integers(0, 3, rows)],
            "quantity": rng.integers(1, 4, rows).astype(float),
            "amount": rng.integers(1, 9999, rows) / 100,
            "price": rng.integers(1, 999, rows) / 100,
            "second": second,
        }
    ).with_columns(
        event_time=start + pl.duration(seconds="second"),
        ingested_at=start + pl.duration(seconds="second"),
        item_id=pl.when(pl.col("item_id") != "").then("item_id"),
    )


def test_batch_one_row_and_stored_lists_are_equal_bit_for_bit() -> None:
    from features.recent import recent_lists

    events = _random_log(users=40, rows=3000)
    catalogue = Catalogue(_frame_of(["a", "b", "c"]))
    users = [f"u{n}" for n in range(40)]
    now = _moments(*["2024-01-21"] * 40)
    batch = recent_as_of(events, users, now, 32, catalogue)
    together = fast_features(batch, now)
    stored = {row["user_id"]: row for row in recent_lists(events, 32, datetime(2024, 1, 21, tzinfo=UTC)).to_dicts()}
    for row, user in enumerate(users):
        named = stored[user].items()
        lists = [value for name, value in named if name.startswith("recent_") and name != "recent_event_ids"]
        online = history_of_lists(*lists, n=32, catalogue=catalogue).window(32)
        _assert_same(batch.take(slice(row, row + 1)), online)
        alone = fast_features(online, now[:1])
        for name in FAST_FEATURES:
            assert together[name][row : row + 1].tobytes() == alone[name].tobytes(), name


def _frame_of(ids: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"item_index": range(2, 2 + len(ids)), "item_id": ids})


def _assert_same(one: RecentEvents, other: RecentEvents) -> None:
    for name in RecentEvents.__dataclass_fields__:
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype, name
        assert left.tobytes() == right.tobytes(), name
