"""What is said of a feature by its name and its meaning, and which services read it."""

import re
from pathlib import Path

import pytest
import yaml

from features.definitions import (
    COMPUTED,
    DESCRIPTIONS,
    NUMERIC_FEATURES,
    SERVICES,
    SLOW_VIEWS,
    VIEW_MEANING,
    may_show_values,
    readers,
    sentence,
    unit,
    window,
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("purchases_1d", "1 day"),
        ("purchases_90d", "90 days"),
        ("fast_events_1h", "1 hour"),
        ("fast_events_24h", "24 hours"),
        ("fast_spend_7d", "7 days"),
        ("fast_gap_ratio", "last events"),
        ("recent_item_ids", "last events"),
        ("orders_ever", "all time"),
        ("recency_days", "all time"),
        ("spend_trend", "90 days"),
        ("item_trend", "28 days"),
        ("bought_with_items", "90 days"),
        ("gender", "as declared"),
        ("loyalty_card", "as declared"),  # a source's own
    ],
)
def test_windows(name: str, found: str) -> None:
    assert window(name) == found


def test_windows_are_what_the_meanings_say() -> None:
    """The longest time that a meaning names is the window; meanings that say "those events" name none."""
    for name in (name for view in SLOW_VIEWS.values() for name in view):
        days = [int(n) for n in re.findall(r"\b(?:last|of|over) (\d+)\b", DESCRIPTIONS[name])]
        if days:
            assert window(name) == f"{max(days)} day{'s' if max(days) > 1 else ''}", name
        if window(name) == "all time":
            assert days == [], name


@pytest.mark.parametrize(
    ("meaning", "says", "in_unit"),
    [
        ("Orders since the data begins (count).", "Orders since the data begins.", "count"),
        ("Time since the last (days; missing: never bought).", "Time since the last. Missing: never bought.", "days"),
        ("Of bands (1, 2, 5) the mean (share, 0 to 1).", "Of bands (1, 2, 5) the mean.", "share, 0 to 1"),
        ("Without a unit.", "Without a unit.", ""),
    ],
)
def test_a_meaning_without_its_unit(meaning: str, says: str, in_unit: str) -> None:
    assert (sentence(meaning), unit(meaning)) == (says, in_unit)


def test_only_names_that_the_shop_gives_are_shown() -> None:
    slow = {name for view in SLOW_VIEWS.values() for name in view}
    assert {name for name in slow if may_show_values(unit(DESCRIPTIONS[name]))} == {"top_category_90d", "top_brand_90d"}
    assert not any(map(may_show_values, ("", "text", "id", "UTC, ISO 8601")))


def test_views_without_a_table_have_a_meaning() -> None:
    assert set(COMPUTED) < set(VIEW_MEANING)


@pytest.mark.parametrize(
    ("view", "feature", "services"),
    [
        ("user_behaviour", "purchases_7d", ("purchase", "profile", "user_state")),
        ("user_behaviour", "purchases_1d", ("purchase", "profile", "user_state")),
        ("user_search", "top_search_90d", ("profile", "user_state")),
        ("user_profile", "gender", ("profile", "user_state")),
        ("recent_events", "recent_item_ids", ("user_state",)),
        ("item_activity", "item_trend", ()),
        ("fast", "fast_orders", ()),
    ],
)
def test_who_reads_a_feature(view: str, feature: str, services: tuple[str, ...]) -> None:
    assert readers(view, feature) == services


def test_services_read_all_that_the_models_need() -> None:
    for service in SERVICES:
        if service.name in NUMERIC_FEATURES:
            read = [name for names in service.reads.values() for name in names or ()]
            assert sorted(read) == sorted(NUMERIC_FEATURES[service.name])


@pytest.mark.parametrize("task", ["purchase", "next_item"])
def test_dvc_knows_every_table_that_a_model_reads(task: str, root: Path) -> None:
    """Training depends on single tables, so that another view trains no model: none that it reads may be missing."""
    stage = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][f"train_{task}"]
    views = [view for one in SERVICES if one.name == task for view in one.reads]  # none of the next item
    tables = {path for path in stage["deps"] if path.startswith("outs/features/")}
    read = {f"outs/features/{name}.parquet" for name in (*views, "catalogue")}
    announced = {"outs/features/promotions.parquet"} if task == "next_item" else set()
    assert tables == read | announced | {"outs/features/event_log"}
