"""Sessions worked out by hand: lengths, funnels, platforms, midnights and beginnings that arrive late."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.features.conftest import contract_log, event

# Three sessions: s1 looks, fills the cart and buys, over midnight, 30 minutes on the web; s2 looks and fills the cart,
# 10 minutes in an app; s3 is one view in a store. A search of s1 before the login has no user.
_VISITS = contract_log(
    event("ann", "2024-01-01 23:45", "view_item", session_id="s1", platform="web", dwell_seconds=20.5),
    event("ann", "2024-01-02 00:05", "add_to_cart", session_id="s1", platform="web"),
    event("ann", "2024-01-02 00:15", "purchase", session_id="s1", platform="web"),
    event("ann", "2024-01-03 08:00", "view_item", session_id="s2", platform="ios", dwell_seconds=9.5),
    event("ann", "2024-01-03 08:10", "add_to_cart", session_id="s2", platform="ios"),
    event("ann", "2024-01-04 12:00", "view_item", session_id="s3", platform="store"),
    event("ann", "2024-01-04 12:00", "view_item"),
    {**event("x", "2024-01-01 23:30", "search", session_id="s1", platform="web"), "user_id": None},
)


def test_by_hand(anns: Callable[..., Any]) -> None:
    row = anns("user_sessions", _VISITS, "2024-01-05")
    assert (row["sessions_7d"], row["sessions_30d"], row["sessions_90d"]) == (3, 3, 3)
    assert row["session_minutes_7d"] == pytest.approx((30 + 10 + 0) / 3)
    assert row["session_conversion_90d"] == pytest.approx(1 / 3)  # s1
    assert row["bounce_share_30d"] == pytest.approx(1 / 3)  # s3
    assert row["view_to_cart_90d"] == pytest.approx(2 / 3)  # s1 and s2 of all three
    assert row["cart_to_purchase_90d"] == 0.5  # s1 of s1 and s2
    assert row["dwell_seconds_7d"] == 30.0
    assert row["mean_dwell_seconds_7d"] == 15.0  # of the two views that say it
    assert [row[f"{name}_share_90d"] for name in ("web", "app", "store")] == [pytest.approx(1 / 3)] * 3


def test_a_session_over_midnight_counts_on_the_day_it_begins(anns: Callable[..., Any]) -> None:
    # On the 9th the window of 7 days begins on the 2nd: s1, begun on the 1st, is out with all it holds.
    row = anns("user_sessions", _VISITS, "2024-01-09")
    assert (row["sessions_7d"], row["sessions_30d"]) == (2, 3)
    assert row["session_minutes_7d"] == 5.0
    assert row["session_conversion_7d"] == 0.0
    assert row["dwell_seconds_7d"] == 9.5
    # At the midnight within s1 only its first event is over: for now it is a bounce.
    early = anns("user_sessions", _VISITS, "2024-01-02")
    assert (early["sessions_7d"], early["bounce_share_7d"], early["session_minutes_7d"]) == (1, 1.0, 0.0)


def test_a_beginning_that_arrives_late_moves_the_session(anns: Callable[..., Any]) -> None:
    # The view of the 1st is received on the 10th; until then the session begins on the 2nd.
    log = contract_log(
        event("ann", "2024-01-01 23:50", "view_item", session_id="s1", ingested="2024-01-10 09:00"),
        event("ann", "2024-01-02 00:10", "purchase", session_id="s1"),
        event("ann", "2024-01-09 10:00", "view_item", session_id="s2"),
    )
    before, after = anns("user_sessions", log, "2024-01-09"), anns("user_sessions", log, "2024-01-11")
    assert (before["sessions_7d"], before["bounce_share_7d"], before["session_conversion_7d"]) == (1, 1.0, 1.0)
    assert (after["sessions_7d"], after["sessions_30d"]) == (1, 2)  # s2; and s1, 20 minutes long
    assert after["session_minutes_30d"] == 10.0
    assert (after["bounce_share_30d"], after["view_to_cart_90d"]) == (0.5, 0.0)


def test_what_is_missing(anns: Callable[..., Any]) -> None:
    row = anns("user_sessions", contract_log(event("ann", "2024-01-01 10:00", "view_item")), "2024-01-02")
    assert (row["sessions_7d"], row["dwell_seconds_7d"]) == (0, 0.0)
    ratios = {name for name in row if name not in {"user_id", "event_timestamp"} and not name.startswith("sessions_")}
    assert {name for name in ratios if row[name] is None} == {n for n in ratios if not n.startswith("dwell_")}
