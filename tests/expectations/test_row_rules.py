import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from great_expectations import ExpectationSuite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.contract import EVENT_NAMES, EVENT_SCHEMA
from expectations.suites import build_suites, failing_reasons, row_rules
from expectations.validator import connection_string, open_tables

NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
NUMBERS = st.sampled_from([None, 0.0, -0.0, -1e-9, -3.0, 1.0, 5.0, 5.000001, 1e300, float("nan"), float("inf")])
TIMES = st.sampled_from([None, NOON, NOON + timedelta(microseconds=1), NOON - timedelta(days=1)])
EVENT = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from([None, "", *"abcdefghij"]),
        "event_time": TIMES,
        "ingested_at": TIMES,
        "event_name": st.sampled_from([None, "", "dance", "Purchase", *EVENT_NAMES]),
        "item_id": st.sampled_from([None, "", "s1"]),
        "quantity": NUMBERS,
        "price": NUMBERS,
        "amount": NUMBERS,
        "dwell_seconds": NUMBERS,
        "position": st.sampled_from([None, -1, 0, 1, 2**31 - 1]),
        "rating": NUMBERS,
    }
)


def _by_great_expectations(events: pl.DataFrame, folder: Path) -> list[list[str]]:
    """Return the reasons of every row, as Great Expectations' SQL engine finds them on DuckDB."""
    with_places = events.with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
    with_places.write_parquet(folder / "events.parquet")
    every = {"result_format": "COMPLETE", "unexpected_index_column_names": ["_row"], "partial_unexpected_count": 1000}
    with open_tables(folder / "tables.duckdb", {"events": [folder / "events.parquet"]}) as context:
        source = context.data_sources.add_sql(
            "lake", connection_string=connection_string(str(folder / "tables.duckdb"))
        )
        batch = source.add_table_asset("events", table_name="events").add_batch_definition_whole_table("whole")
        rules = [e for e in build_suites()["events"].expectations if e.meta]
        found = batch.get_batch().validate(ExpectationSuite("rows", expectations=rules), result_format=every)
    reasons: list[set[str]] = [set() for _ in range(events.height)]
    for result in found.results:
        for failing in result.result.get("unexpected_index_list") or []:
            reasons[failing["_row"]].add(result.expectation_config.meta["reason"])
    return [sorted(those - {"event_id_repeated"}) for those in reasons]


@pytest.mark.stores
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(EVENT, min_size=30, max_size=90))
def test_single_rows_and_tables_are_checked_alike(rows: list[dict[str, Any]]) -> None:
    """Great Expectations on DuckDB is the yardstick; uniqueness is left to the stores."""
    events = pl.DataFrame(rows, schema=EVENT_SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        assert failing_reasons(events).to_list() == _by_great_expectations(events, Path(folder))


def test_reasons_are_sorted_and_an_accepted_event_has_none() -> None:
    good = {"event_id": "a", "event_time": NOON, "ingested_at": NOON, "event_name": "search"}
    bad = {**good, "event_name": "purchase", "price": -1.0, "ingested_at": NOON - timedelta(seconds=1), "amount": -2.0}
    events = pl.DataFrame([good, bad], schema=EVENT_SCHEMA)
    expected = ["amount_negative", "ingested_before_it_happened", "item_id_missing", "price_negative"]
    assert failing_reasons(events).to_list() == [[], expected]
    assert failing_reasons(events.clear()).to_list() == []
    assert failing_reasons(events.clear()).dtype == pl.List(pl.String)


def test_a_purchase_without_a_price_is_a_whole_order_and_needs_no_item() -> None:
    order = {"event_id": "a", "event_time": NOON, "ingested_at": NOON, "event_name": "purchase", "amount": 49.9}
    assert failing_reasons(pl.DataFrame([order, {**order, "price": 9.9}], schema=EVENT_SCHEMA)).to_list() == [
        [],
        ["item_id_missing"],
    ]


def test_every_reason_of_the_suite_but_uniqueness_finds_rows() -> None:
    reasons = {e.meta["reason"] for e in build_suites()["events"].expectations if e.meta}
    assert set(row_rules("events")) == reasons - {"event_id_repeated"}


def test_live_events_are_checked_without_great_expectations() -> None:
    code = "import sys, expectations.suites as s; s.row_rules('events'); assert 'great_expectations' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
