"""Waiting times and life tables by hand."""

import numpy as np
import polars as pl
import pytest

from features.histories import EventLog, UserLog
from features.recent import EVENT_CODES
from training.models.waits import LifeTable, days_to_purchase

START = np.datetime64("2024-01-01", "us")


def log_of(*events: tuple[str, float, str]) -> UserLog:
    """A log of (user, days after the start, name), sorted."""
    users = [one[0] for one in events]
    times = START + np.array([round(one[1] * 86_400) for one in events]) * np.timedelta64(1_000_000, "us")
    one = np.ones(len(events))
    codes = np.array([EVENT_CODES[name] for _, _, name in events], dtype=np.int8)
    columns = EventLog(one.astype(np.int32), codes, times, times, one, one, one.astype(np.int32))
    places = pl.DataFrame({"user_id": users}).with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    runs = places.group_by("user_id", maintain_order=True)
    return UserLog(runs.agg(pl.col("place").min().alias("begin"), pl.col("place").max().add(1).alias("end")), columns)


def test_days_to_the_next_purchase() -> None:
    log = log_of(
        ("ann", 1, "purchase"), ("ann", 2, "view_item"), ("ann", 4.5, "purchase"), ("bob", 3, "purchase")
    )  # fmt: skip
    users = np.array(["ann", "ann", "ann", "bob", "ann", "cy"])
    now = START + np.array([0, 36, 108, 72, 109, 0]) * np.timedelta64(1, "h")
    found = days_to_purchase(log, users, now)
    assert found.tolist() == [1.0, 3.0, 0.0, 0.0, np.inf, np.inf], "a purchase at the very moment is the next one"


def test_a_life_table_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.models.waits._WITHIN", 2)
    monkeypatch.setattr("training.models.waits._AFTER", (1.0, 2.0, 3.0))
    monkeypatch.setattr("training.models.waits._ENOUGH", 1)
    # Horizon 7 days, the longest wait of a buyer. Intervals: to the median wait of buyers, 4; to 7; to 14; to 21.
    wait = np.array([1.0, 4.0, 7.0, 10.0, 20.0, np.inf, 10.0])
    label = np.array([1, 1, 1, 0, 0, 0, 0])
    left = np.array([30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 8.0])  # of the last row, the third interval is not known
    table = LifeTable.of_labels(label, wait, left)
    assert table.within == 2
    assert table.bought.tolist() == [
        [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert table.risk.tolist() == [
        [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0],
    ]  # fmt: skip
    assert table.rates[0] == pytest.approx(-np.log(1 - 2.5 / 8))


def test_the_label_decides_even_where_the_log_knows_no_purchase() -> None:
    table = LifeTable.of_labels(np.array([1, 0]), np.array([np.inf, np.inf]), np.array([9.0, 9.0]))
    assert (table.within, table.bought.tolist(), table.risk.tolist()) == (1, [[1], [0]], [[1], [1]])


def test_within_the_horizon_every_buyer_buys_once_and_nobody_else_does() -> None:
    random = np.random.default_rng(2)
    wait = random.exponential(9, 5000)
    label = (wait < 7).astype(np.float32)
    table = LifeTable.of_labels(label, wait, np.full(5000, 60.0))
    assert table.within == 7
    assert table.risk.shape[1] > 7, "later purchases are learned from as well"
    np.testing.assert_array_equal(table.bought[:, :7].sum(axis=1), label)
    assert (table.bought <= table.risk).all()
    # The product of the intervals' survival is the share that does not buy (Kaplan & Meier).
    assert np.exp(-table.rates[:7].sum()) == pytest.approx(1 - label.mean(), abs=0.001)
