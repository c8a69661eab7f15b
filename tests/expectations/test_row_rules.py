import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import polars as pl
import pytest
from great_expectations import ExpectationSuite
from great_expectations.expectations.row_conditions import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.contract import EVENT_NAMES, EVENT_SCHEMA
from expectations.row_rules import compile_rules, event_rules, failing_reasons
from expectations.suites import build_suites
from expectations.validator import connection_string, open_tables
from shoplens.errors import SettingsError

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


def test_every_reason_of_the_suite_but_uniqueness_has_a_rule() -> None:
    reasons = {e.meta["reason"] for e in build_suites()["events"].expectations if e.meta}
    assert set(event_rules()) == reasons - {"event_id_repeated"}


@pytest.mark.parametrize(
    ("expectation", "what"),
    [
        (gxe.ExpectColumnValuesToMatchRegex(column="url", regex="^https"), "type ExpectColumnValuesToMatchRegex"),
        (gxe.ExpectColumnValuesToNotBeNull(column="url", mostly=0.9), "mostly 0.9"),
        (
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="price", column_B="amount", ignore_row_if="neither"),
            "ignore_row_if 'neither'",
        ),
        (
            gxe.ExpectColumnValuesToNotBeNull(
                column="url", row_condition=(Column("price") > 1) | (Column("price") < 2)
            ),
            "row_condition",
        ),
    ],
)
def test_an_expectation_without_a_translation_is_rejected(expectation: Any, what: str) -> None:
    expectation.meta = {"reason": "some_reason"}
    with pytest.raises(SettingsError, match=rf"{what}.*cannot be checked on single rows"):
        compile_rules([expectation])


def _failing(condition: Any) -> list[bool]:
    rule = gxe.ExpectColumnValuesToNotBeNull(column="url", row_condition=condition, meta={"reason": "url_missing"})
    events = pl.DataFrame({"price": [1.0, 2.0, None], "url": [None] * 3}, schema_overrides={"url": pl.String})
    return events.select(compile_rules([rule])["url_missing"]).to_series().to_list()


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        (Column("price") == 2, [False, True, False]),
        (Column("price") != 2, [True, False, False]),
        (Column("price") < 2, [True, False, False]),
        (Column("price") <= 1, [True, False, False]),
        (Column("price") > 1, [False, True, False]),
        (Column("price") >= 2, [False, True, False]),
        (Column("price").is_in([2.0, 3.0]), [False, True, False]),
        (Column("price").is_not_in([2.0, 3.0]), [True, False, False]),
        (Column("price").is_null(), [False, False, True]),
        (Column("price").is_not_null(), [True, True, False]),
        (None, [True, True, True]),
    ],
)
def test_a_row_condition_limits_the_rows_that_are_checked(condition: Any, asked: list[bool]) -> None:
    """The prices are 1, 2 and none; every url is missing."""
    assert _failing(condition) == asked
