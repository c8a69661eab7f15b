"""The days that the daily network reads and learns from, by hand."""

import numpy as np
import pytest

from features.histories import EventLog, Histories
from features.recent import EVENT_CODES
from training.models.daily_network import _targets
from training.models.days import CHANNELS, DayGrid, days_to_wait, interval_edges

NOW = np.datetime64("2024-03-01T04:00", "us")  # a Friday


def grid_of(*events: tuple[float, str, float], days: int = 10) -> DayGrid:
    """The grid of one row from events (days ago, name, money), oldest first."""
    times = NOW - np.array([round(one[0] * 86_400) for one in events], dtype=np.int64) * np.timedelta64(1_000_000, "us")
    codes = np.array([EVENT_CODES[one[1]] for one in events], dtype=np.int8)
    money, ones = np.array([one[2] for one in events], dtype=np.float32), np.ones(len(events), dtype=np.int32)
    log = EventLog(ones, codes, times, times, money, money, ones)
    return DayGrid.read(Histories(log, np.array([0]), np.array([len(events)])), np.array([NOW]), days)


def test_days_are_counted_back_from_the_moment() -> None:
    grid = grid_of(
        (40.0, "purchase", 9.0),  # before the days that are read
        (6.2, "view_item", 0.0),
        (1.0, "purchase", 2.0),  # exactly a day ago: the last day
        (0.9, "purchase", 3.0),
        (2.5, "purchase", 4.0),
    )
    assert grid.lines.tolist() == [[0] * 7 + [1, 0, 2]]
    assert grid.money.tolist() == [[0] * 7 + [4, 0, 5]]
    assert grid.start.tolist() == [0], "on record since before the first day"
    assert grid_of((6.2, "view_item", 0.0)).start.tolist() == [3]
    empty = grid_of()
    assert (empty.start.tolist(), empty.lines.sum(), np.abs(empty.channels()).sum()) == ([10], 0, 0)


def test_what_a_day_says_by_hand() -> None:
    grid = grid_of((8.5, "view_item", 0.0), (7.5, "purchase", 10.0), (2.5, "purchase", 20.0))
    found = grid.channels()[0]
    assert found.shape == (10, CHANNELS)
    assert found[0].tolist() == [0.0] * CHANNELS, "not on record yet"
    assert found[:, 0].tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert found[7, 1] == pytest.approx(np.log(21) / 4)
    assert found[9, 3] == pytest.approx(np.log(3) / 3), "two days since"
    # The rate of a half-life of 7 days on the last day: purchases 7 and 2 days before, over 9 days on record.
    kept = 2 ** (-1 / 7)
    assert found[9, 4] ** 2 == pytest.approx((kept**7 + kept**2) / sum(kept**k for k in range(9)), rel=1e-5)
    assert found[8, 9] == 1, "the next day is a week after the first purchase"
    assert found[7, 9] == found[9, 9] == 0
    # Days of 24 hours: the last began on Thursday morning, and the same weekday has the same angle.
    np.testing.assert_allclose(found[2, -2:], found[9, -2:], rtol=1e-5)


def test_intervals_and_waiting_days() -> None:
    assert interval_edges(7).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 21, 28]
    assert interval_edges(30).tolist()[:8] == [0, 4, 9, 13, 17, 21, 26, 30]
    assert interval_edges(1).tolist()[:2] == [0, 1]
    assert days_to_wait(np.array([[0, 1, 0, 0, 1, 0]], dtype=np.float32)).tolist()[0][:5] == [1, 0, 2, 1, 0]


def test_a_day_is_at_risk_until_the_next_purchase_and_only_as_far_as_is_known() -> None:
    # Purchases on days 1 and 6 of 10; asked at the end of days 2, 5 and 8.
    grid = grid_of((8.5, "purchase", 1.0), (3.5, "purchase", 1.0))
    asked = np.zeros(10, dtype=bool)
    asked[[0, 2, 5, 8]] = True
    edges = np.array([0, 1, 2, 4])
    found = _targets(grid, asked, edges)[0]
    assert found[0].sum() == 0, "before the first event nobody is asked"
    assert found[2].tolist() == [[1, 1, 1], [0, 0, 1]], "after three days without, on the fourth"
    assert found[5].tolist() == [[1, 0, 0], [1, 0, 0]], "the next day"
    assert found[8].tolist() == [[1, 0, 0], [0, 0, 0]], "one more day is known"
    assert found[[1, 3, 4, 6, 7, 9]].sum() == 0


def test_what_comes_after_a_moment_does_not_change_it() -> None:
    early = grid_of((6.5, "purchase", 1.0), (4.5, "purchase", 1.0))
    late = grid_of((6.5, "purchase", 1.0), (4.5, "purchase", 1.0), (1.5, "purchase", 1.0))
    np.testing.assert_array_equal(early.channels()[:, :8], late.channels()[:, :8])
