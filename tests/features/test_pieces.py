"""A log cut into pieces gives the same rows as the log in one piece."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.definitions import VIEWS
from shoplens.files import folder_digest

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY_ROWS = tuple(view.name for view in VIEWS)


def _events(rows: int) -> pl.DataFrame:
    """Events of 23 users, one of whom has more events than a piece holds; every tenth comes two days late."""
    rng = np.random.default_rng(3)
    seconds = np.sort(rng.integers(0, 30 * 86_400, rows))
    times = [START + timedelta(seconds=int(second)) for second in seconds]
    bought = rng.random(rows) < 0.3
    user = np.where(rng.random(rows) < 0.3, 0, rng.integers(0, 23, rows))
    return pl.DataFrame(
        {
            "event_id": [f"e{n:05}" for n in range(rows)],
            "event_time": times,
            "ingested_at": [time + timedelta(days=2 * (n % 10 == 0)) for n, time in enumerate(times)],
            "event_name": np.where(bought, "purchase", "view_item").tolist(),
            "user_id": [None if n == 22 else f"u{n:02}" for n in user],
            "session_id": [f"s{n}" for n in rng.integers(0, 9, rows)],
            "item_id": rng.choice(["bread", "milk", "pen", "ink"], rows).tolist(),
            "order_id": [f"o{n}" if is_bought else None for n, is_bought in zip(seconds // 7200, bought, strict=True)],
            "quantity": np.where(bought, 1.0, None).tolist(),
            "price": np.where(bought, 2.5, None).tolist(),
            "amount": np.where(bought, 2.5, None).tolist(),
        },
        schema_overrides={
            "event_time": pl.Datetime("us", "UTC"),
            "ingested_at": pl.Datetime("us", "UTC"),
            "quantity": pl.Float64,
            "price": pl.Float64,
            "amount": pl.Float64,
        },
    )


def _in_pieces(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("features.engine.job._HISTORY_ROWS", rows)
    monkeypatch.setattr("features.engine.job._ONE_DAY_ROWS", rows)
    monkeypatch.setattr("features.stages.RECENT_ROWS", rows)


@pytest.mark.parametrize("history_days", [None, 1], ids=["every day", "one day"])
def test_pieces_change_no_row(
    new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, history_days: int | None
) -> None:
    shop = new_shop("shop", history_days=history_days)
    shop.put(_events(3_000), start=START)
    shop.build()
    whole = {name: shop.view(name) for name in (*DAY_ROWS, "recent_events", "catalogue")}
    _in_pieces(monkeypatch, rows=400)  # seven pieces of users; three of items, for each of the four has about 750
    shop.build()
    for view in VIEWS:
        name = view.name
        pieces = shop.view(name)
        assert pieces.sort("event_timestamp", *view.keys).equals(whole[name]), name
        if view.keys[0] == "user_id":
            # Pieces are ranges of users: a user's rows are together, and days run within a piece.
            first = pieces.with_row_index("row").group_by("user_id").agg(pl.col("row").min()).sort("user_id")["row"]
            assert history_days is None or first.is_sorted()
    # Sorted by user whatever the pieces, hence the same file.
    assert shop.view("recent_events").equals(whole["recent_events"])
    assert shop.view("catalogue").equals(whole["catalogue"])


def test_pieces_again_give_the_same_bytes(new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _in_pieces(monkeypatch, rows=400)
    shop = new_shop()
    shop.put(_events(3_000), start=START)
    shop.build()
    before = folder_digest(shop.features_dir)
    shop.build()
    assert folder_digest(shop.features_dir) == before
