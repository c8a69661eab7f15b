"""Drift detection: limits calculated by hand, and faults injected into a simulated shop with seasons and promotions."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from events.contract import EVENT_SCHEMA, ITEM_SCHEMA
from events.mapping import load_mapping
from expectations.drift import (
    COLUMNS,
    PROFILE_SCHEMA,
    Reference,
    _index,
    bin_value,
    build_profile,
    compare_days,
    item_categories,
    outside_limits,
)
from expectations.drift_report import build_page, find_drift, last_complete_day
from simulator.plan import Plan
from simulator.run import simulate
from tests.read_source import Ingested, read_source

MONDAY = date(2024, 1, 1)
REFERENCE = Reference(days=56, tolerance=8)


def _rows(counts: list[int]) -> pl.DataFrame:
    """Return PROFILE_SCHEMA of so many rows a day from MONDAY on."""
    days = [MONDAY + timedelta(days=place) for place in range(len(counts))]
    return pl.DataFrame({"day": days, "measure": "rows", "key": "", "count": counts}, schema=PROFILE_SCHEMA)


def _volume(counts: list[int]) -> list[tuple[float, float, float]]:
    compared = compare_days(_rows(counts), REFERENCE).filter(pl.col("measure") == "volume").sort("day")
    return compared.select("value", "low", "high").rows()


def test_a_constant_count_may_deviate_by_counting_noise() -> None:
    # 2 sqrt(100.375) = 20.037; spread of noise and of a median of 4: sqrt(1 + pi/2/4) = 1.1802, times 8 is 9.441;
    # ((20.037 - 9.441) / 2)^2 - 0.375 = 27.69 and ((20.037 + 9.441) / 2)^2 - 0.375 = 216.86
    assert _volume([100] * 57) == [(100.0, 27.0, 217.0)]


def test_a_day_is_compared_with_its_weekday() -> None:
    week = [1000, 1000, 1000, 1000, 1000, 3000, 3000]
    assert outside_limits(compare_days(_rows(week * 9), REFERENCE)).is_empty()
    saturday_on_tuesday = [*week * 8, 1000, 3000]
    found = outside_limits(compare_days(_rows(saturday_on_tuesday), REFERENCE))
    assert found.select("day", "measure", "value").rows() == [(date(2024, 2, 27), "volume", 3000.0)]


def test_a_count_that_always_varies_has_wide_limits() -> None:
    """Every other week is three times the size: the same prediction was always off by as much."""
    weeks = [[1000] * 7, [3000] * 7] * 5
    assert outside_limits(compare_days(_rows([count for week in weeks for count in week]), REFERENCE)).is_empty()


def test_one_bad_day_does_not_widen_the_limits() -> None:
    calm = [1000 + (place * 37) % 50 for place in range(70)]
    with_a_bad_one = [*calm[:45], 0, *calm[46:]]
    assert _volume(with_a_bad_one)[-1] == pytest.approx(_volume(calm)[-1], rel=0.15)


def test_a_missing_hour_is_reported() -> None:
    # 1,000 rows an hour: 2 sqrt(1000.375) = 63.26, less 9.441 is 53.82, and (53.82 / 2)^2 - 0.375 = 723.7
    days = [MONDAY + timedelta(days=place) for place in range(57)]
    hours = [{"day": day, "measure": "hour", "key": str(hour), "count": 1000} for day in days for hour in range(24)]
    there = [row for row in hours if (row["day"], row["key"]) != (days[-1], "13")]
    rows = _rows([24_000] * 56 + [23_000])
    profile = pl.concat([rows, pl.DataFrame(there, schema=PROFILE_SCHEMA)])
    (one,) = find_drift(profile, REFERENCE, days[-1], days[-1]).findings
    assert one.line() == "2024-02-26 volume_by_hour(13) vanished: 0, expected 723 to 1,321"


def test_nothing_is_compared_before_there_is_a_reference_period() -> None:
    assert compare_days(_rows([100] * 56), REFERENCE).is_empty()
    assert find_drift(_rows([100] * 56), REFERENCE, MONDAY, date.max).lines() == [
        "drift: not checked; no day has the 56 preceding days it is compared with"
    ]


def test_the_stability_index_equals_a_hand_calculation() -> None:
    # ten bins of 100 each; then 200 in each of the upper five. With half a count added to each bin, shares go from 0.1
    # to 0.5/1005 = 0.0004975 and 200.5/1005 = 0.1995025:
    # 5 (0.0004975 - 0.1) ln(0.004975) + 5 (0.1995025 - 0.1) ln(1.995025) = 2.6384 + 0.3436; chance: 9 (1/1000 + 1/1000)
    index, chance = _index(np.array([0.0] * 5 + [200.0] * 5), np.full(10, 100.0))
    assert index == pytest.approx(2.982, abs=1e-3)
    assert chance == pytest.approx(0.018)
    assert _index(np.full(10, 10.0), np.full(10, 100.0))[0] == 0


def test_bins_are_accurate_to_nine_percent() -> None:
    # 8 bins an octave: 10 lies in bin floor(8 log2 10) = 26, whose middle is 2^(26.5/8) = 9.94
    assert bin_value("26") == pytest.approx(9.94, abs=0.01)
    assert (bin_value("zero"), bin_value("negative")) == (0, -1)


@pytest.fixture(scope="module")
def shop(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    out = tmp_path_factory.mktemp("shop") / "log"
    simulate(Plan(users=500, items=80, days=99, seed=21, start=date(2025, 10, 1)), out)
    return read_source(load_mapping(root / "events/mappings/simulated.yaml"), [out])


LAST = date(2026, 1, 6)  # the 98th day; returns and reviews come later still


def _profile(shop: Ingested, fault: Callable[[pl.DataFrame], pl.DataFrame] | None = None) -> pl.DataFrame:
    events = shop.events.filter(pl.col("event_time").dt.date() <= LAST)
    is_last = pl.col("event_time").dt.date() == LAST
    if fault is not None:
        events = pl.concat([events.filter(~is_last), fault(events.filter(is_last))])
    return build_profile([events.select(COLUMNS)], item_categories(shop.items))


def _nothing(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda day: day.with_columns(pl.lit(None, dtype=day.schema[column]).alias(column))


def _times(column: str, by: float) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda day: day.with_columns(pl.col(column) * by)


FAULTS = {
    "half a day is missing": (
        lambda day: day.filter(pl.col("event_time").dt.hour() < 12),
        {("volume", "", "too low")},
    ),
    "all came twice": (lambda day: pl.concat([day, day]), {("volume_by_event_name", "search", "too high")}),
    "an event name vanished": (
        lambda day: day.filter(pl.col("event_name") != "add_to_cart"),
        {("event_name_values", "add_to_cart", "vanished")},
    ),
    "a platform vanished": (
        lambda day: day.filter(pl.col("platform") != "ios"),
        {("platform_values", "ios", "vanished")},
    ),
    "another currency": (
        lambda day: day.with_columns(pl.lit("USD").alias("currency")),
        {("currency_values", "EUR", "vanished"), ("currency_values", "USD", "new")},
    ),
    "prices times 100": (_times("price", 100), {("price_distribution", "price", "too high")}),
    "quantities doubled": (_times("quantity", 2), {("quantity_distribution", "quantity", "too high")}),
    "seconds became milliseconds": (
        _times("dwell_seconds", 1000),
        {("dwell_seconds_distribution", "dwell_seconds", "too high")},
    ),
    "a column turned null": (_nothing("session_id"), {("missing_share", "session_id", "too high")}),
    "items lost": (_nothing("item_id"), {("missing_share", "item_id", "too high")}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_reported(shop: Ingested, name: str) -> None:
    fault, expected = FAULTS[name]
    drift = find_drift(_profile(shop, fault), REFERENCE, LAST, LAST)
    assert expected <= {(one.measure, one.key, one.what) for one in drift.findings}


def test_clean_weeks_with_season_and_promotions_are_not_flagged(shop: Ingested) -> None:
    """Christmas and three promotions lie in the six weeks that are reported."""
    drift = find_drift(_profile(shop), REFERENCE, date.min, date.max)
    assert len(drift.days) == 42
    assert [one.line() for one in drift.findings] == []


def test_a_distribution_finding_reports_both_medians(shop: Ingested) -> None:
    (one,) = find_drift(_profile(shop, _times("price", 100)), REFERENCE, LAST, LAST).findings
    assert one.median is not None
    assert one.median[0] / one.median[1] == pytest.approx(100, rel=0.3)
    assert one.line().startswith("2026-01-06 price_distribution(price) too high: ")
    assert "; median " in one.line()


def test_the_profile_does_not_depend_on_the_batches(shop: Ingested) -> None:
    events, categories = shop.events.select(COLUMNS), item_categories(shop.items)
    cuts = [0, 1, 5000, 70_000, events.height]
    pieces = [events.slice(a, b - a) for a, b in pairwise(cuts)]
    assert build_profile(pieces, categories).equals(build_profile([events], categories))


def test_events_ingested_before_they_happened_are_not_counted() -> None:
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC)
    rows = [
        {"event_id": "a", "event_time": noon, "ingested_at": noon, "event_name": "search", "price": -1.0},
        {"event_id": "b", "event_time": datetime(2099, 1, 1, tzinfo=UTC), "ingested_at": noon},
        {"event_id": "c", "event_time": None, "ingested_at": noon},
    ]
    items = pl.DataFrame([{"item_id": "s1", "category": "A > B"}], schema=ITEM_SCHEMA)
    profile = build_profile([pl.DataFrame(rows, schema=EVENT_SCHEMA).select(COLUMNS)], item_categories(items))
    assert profile["day"].unique().to_list() == [date(2024, 7, 1)]
    assert profile.filter(pl.col("measure") == "price").select("key", "count").rows() == [("negative", 1)]
    assert profile.filter((pl.col("measure") == "missing") & (pl.col("key") == "user_id"))["count"].to_list() == [1]


@pytest.mark.parametrize(("hours", "last"), [(["22"], date(2023, 12, 31)), (["4", "23"], MONDAY)])
def test_a_day_has_ended_when_its_last_hour_has_events(hours: list[str], last: date) -> None:
    profile = pl.DataFrame(
        {"day": [MONDAY] * len(hours), "measure": "hour", "key": hours, "count": 1}, schema=PROFILE_SCHEMA
    )
    assert last_complete_day(profile) == last


def test_the_page_is_self_contained_and_shows_the_findings(shop: Ingested) -> None:
    drift = find_drift(_profile(shop, _times("price", 100)), REFERENCE, LAST, LAST)
    page = build_page(drift, "a shop & its log")
    lines = re.findall(r'class="line" points="([^"]*)"', page)
    assert lines
    assert all(re.fullmatch(r"[\d., ]+", line) for line in lines)
    assert "a shop &amp; its log" in page
    assert page.count("<svg") > 10
    assert "http" not in page
    assert page.count('class="out"') == 1
