"""Searches worked out by hand: what counts as taken, the places, and the term searched for most."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.features.conftest import contract_log, event


def _search(when: str, query: str | None = "pen", **more: Any) -> dict[str, Any]:
    return event("ann", when, "search", query=query, **{"session_id": "s1", "results": "pen,ink", **more})


def _take(when: str, item: str | None = "pen", **more: Any) -> dict[str, Any]:
    return event("ann", when, "select_item", item_id=item, **{"session_id": "s1", **more})


def test_by_hand(anns: Callable[..., Any]) -> None:
    log = contract_log(
        _search("2024-01-01 10:00"),  # taken at place 2, though another item is taken too
        _take("2024-01-01 10:01", "ink", position=2),
        _take("2024-01-01 10:02", "milk", position=9),
        _search("2024-01-01 11:00", "ink", session_id="s2"),  # what is taken lies before it: not taken
        _take("2024-01-01 10:59", session_id="s2", position=7),
        _search("2024-01-01 12:00", "ink", session_id="s3", results="ink, pen"),  # taken by a view, at place 1
        event("ann", "2024-01-01 12:01", "view_item", item_id="pen", session_id="s3", position=1),
        _search("2024-01-01 13:00", "pen", session_id="s4"),  # taken in another session: not taken
        _take("2024-01-01 13:01", session_id="s5", position=5),
        _search("2024-01-01 14:00", None, session_id=None),  # cannot be judged
        _search("2024-01-01 15:00", "zip", session_id="s6", results=None),  # nor can this
    )
    row = anns("user_search", log, "2024-01-02")
    assert (row["searches_30d"], row["searches_90d"]) == (6, 6)
    assert (row["search_taken_share_30d"], row["search_taken_share_90d"]) == (0.5, 0.5)  # two of the four that say
    assert row["search_position_90d"] == 1.5  # places 2 and 1
    assert row["top_search_90d"] == "ink"  # ink and pen twice each: the alphabet


def test_a_list_stands_in_for_results(anns: Callable[..., Any]) -> None:
    log = contract_log(
        _search("2024-01-01 10:00", results=None, list_id="l1"),
        _take("2024-01-01 10:01", None, list_id="l1", position=4),
        _search("2024-01-01 11:00", results=None, list_id="l2"),
        _search("2024-01-01 12:00", results="ink", list_id="l1"),  # it names results: its list says nothing
        _take("2024-01-01 12:01", "pen", list_id="l1", position=8),  # of the first search again
    )
    row = anns("user_search", log, "2024-01-02")
    assert row["search_taken_share_30d"] == pytest.approx(1 / 3)
    assert row["search_position_90d"] == 6.0


def test_a_taking_that_arrives_late_counts_from_then(anns: Callable[..., Any]) -> None:
    log = contract_log(_search("2024-01-01 10:00"), _take("2024-01-01 10:01", position=3, ingested="2024-01-04 06:00"))
    before, after = anns("user_search", log, "2024-01-04"), anns("user_search", log, "2024-01-05")
    assert (before["search_taken_share_30d"], before["search_position_90d"]) == (0.0, None)
    assert (after["search_taken_share_30d"], after["search_position_90d"]) == (1.0, 3.0)


def test_windows_and_what_is_missing(anns: Callable[..., Any]) -> None:
    log = contract_log(_search("2024-01-01 10:00"), _take("2024-01-01 10:01"))
    row = anns("user_search", log, "2024-02-01")  # 31 days after the 1st
    assert (row["searches_30d"], row["searches_90d"]) == (0, 1)
    assert (row["search_taken_share_30d"], row["search_taken_share_90d"]) == (None, 1.0)
    assert row["search_position_90d"] is None  # taken, at a place that nobody says
    assert row["top_search_90d"] == "pen"
