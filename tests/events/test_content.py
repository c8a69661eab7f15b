"""One definition of "same content", in Polars and in DuckDB."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.contract import EVENT_SCHEMA
from events.identity import content_hash, content_hash_sql, content_key

NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
COLOUR, SIZE = {"key": "colour", "value": "red"}, {"key": "size", "value": None}
EVENT: dict[str, Any] = dict.fromkeys(EVENT_SCHEMA) | {
    "event_id": "1",
    "event_time": NOON,
    "ingested_at": NOON,
    "event_name": "purchase",
    "user_id": "ann",
    "session_id": "s1",
    "item_id": "a",
    "quantity": 0.0,
    "attributes": [COLOUR, SIZE],
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"ingested_at": NOON + timedelta(hours=1)}, True),
        ({"session_id": "s2"}, True),
        ({"quantity": -0.0}, True),
        ({"attributes": [SIZE, COLOUR]}, True),
        ({"attributes": [COLOUR]}, False),
        ({"attributes": [COLOUR, {"key": "size", "value": "M"}]}, False),
        ({"event_time": NOON + timedelta(microseconds=1)}, False),
        ({"quantity": None}, False),
        ({"item_id": "A"}, False),
        ({"item_id": None, "order_id": "a"}, False),
    ],
)
def test_what_is_the_same_event(change: dict[str, Any], same: bool) -> None:
    pair = pl.DataFrame([EVENT, EVENT | change], schema=EVENT_SCHEMA)
    in_polars = pair.select(content_hash()).to_series()
    in_duckdb = duckdb.sql("from pair").select(content_hash_sql()).fetchall()
    assert (in_polars[0] == in_polars[1]) is same
    assert (in_duckdb[0] == in_duckdb[1]) is same


def test_no_attributes_equal_an_empty_list() -> None:
    pair = pl.DataFrame([EVENT | {"attributes": []}, EVENT | {"attributes": None}], schema=EVENT_SCHEMA)
    assert pair.select(content_hash()).to_series().n_unique() == 1
    assert len(set(duckdb.sql("from pair").select(content_hash_sql()).fetchall())) == 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_key_of_a_dict_and_the_hash_of_a_frame_agree(data: st.DataObject) -> None:
    """Two events that differ in little: their keys are equal exactly where their hashes are."""
    pairs = st.lists(st.sampled_from([{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]), max_size=2)
    changes = st.fixed_dictionaries(
        {},
        optional={
            "item_id": st.sampled_from(["x", None]),
            "price": st.sampled_from([2.0, 2, None]),
            "ingested_at": st.sampled_from([datetime(2026, 1, 2, tzinfo=UTC), None]),
            "session_id": st.sampled_from(["s", None]),
            "attributes": pairs | st.none(),
        },
    )
    one, other = data.draw(changes), data.draw(changes)
    frame = pl.DataFrame([one, other], schema=EVENT_SCHEMA)
    first, second = frame.select(content_hash()).to_series()
    assert (first == second) == (content_key(one) == content_key(other))
