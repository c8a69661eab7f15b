from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.lake import append_events
from expectations.lake import Days, validate_lake
from expectations.stages import drift_page, validate
from expectations.validator import data_docs_index
from shoplens.errors import BrokenTableError, SettingsError
from shoplens.files import folder_digest, read_json, write_json
from shoplens.params import Params, load_params
from shoplens.settings import Settings

pytestmark = pytest.mark.stores
NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
GOOD = {
    "event_time": NOON,
    "ingested_at": NOON,
    "event_name": "purchase",
    "user_id": "ann",
    "item_id": "s1",
    "quantity": 1.0,
    "price": 2.0,
    "amount": 2.0,
    "attributes": [],
}


@pytest.fixture
def params(root: Path) -> Params:
    found = load_params(root / "params.yaml")
    return found.model_copy(update={"expectations": found.expectations.model_copy(update={"max_bad_share": 0.5})})


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., Settings]:
    """Write outs/events with some events, each given as its difference from a good one; twenty good ones beside."""

    def make(*events: dict[str, Any], beside: int = 20, **tables: pl.DataFrame) -> Settings:
        settings = Settings(root=tmp_path)
        folder = settings.outs_dir / "events"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{**GOOD, "event_id": f"e{k}"} | event for k, event in enumerate([*events, *[{}] * beside])]
        frames = {
            "events": pl.DataFrame(rows, schema=EVENT_SCHEMA),
            "items": pl.DataFrame([{"item_id": "s1"}], schema=ITEM_SCHEMA),
            "users": pl.DataFrame(schema=USER_SCHEMA),
            "campaigns": pl.DataFrame(schema=CAMPAIGN_SCHEMA),
            "promotions": pl.DataFrame(),
            **tables,
        }
        for name, frame in frames.items():
            frame.write_parquet(folder / f"{name}.parquet")
        write_json(folder / "account.json", {"tables": {}, "declared_reasons": []})
        write_json(folder / "dataset.json", {"rows": len(rows), "digest": "x", "identity": "user"})
        return settings

    return make


def test_bad_rows_are_quarantined_with_all_their_reasons_and_good_rows_are_accepted(world: Any, params: Params) -> None:
    settings = world({"price": -1.0, "amount": -1.0}, {"item_id": None}, {"event_name": "dance"})
    validate(params, settings)
    out = settings.outs_dir / "validated"
    assert pl.read_parquet(out / "events.parquet")["event_id"].to_list() == [f"e{k}" for k in range(3, 23)]
    aside = pl.read_parquet(out / "quarantine.parquet")
    assert aside["row"].to_list() == [0, 1, 2]
    assert aside["reasons"].to_list() == [
        ["amount_negative", "price_negative"],
        ["item_id_missing"],
        ["event_name_unknown"],
    ]
    found = read_json(out / "validation.json")["events"]
    assert (found["rows_in"], found["accepted"], found["quarantined"]) == (23, 20, 3)
    assert read_json(out / "dataset.json")["rows"] == 20


@pytest.mark.parametrize("count", [20, 21, 250, 3000])
def test_every_bad_row_is_found_whatever_their_number(world: Any, params: Params, count: int) -> None:
    """Great Expectations' SQL engine returns 20 of them unless it is told otherwise."""
    changes = [{"price": -1.0}, {"event_name": "dance"}, {"item_id": None}]
    bad = [changes[k % 3] for k in range(count)]
    settings = world(*bad, {"event_id": "twice"}, {"event_id": "twice"}, beside=count)
    lenient = params.expectations.model_copy(update={"max_bad_share": 0.9})
    validate(params.model_copy(update={"expectations": lenient}), settings)
    found = read_json(settings.outs_dir / "validated/validation.json")["events"]
    assert (found["rows_in"], found["accepted"], found["quarantined"]) == (2 * count + 2, count, count + 2)
    assert found["reasons"] == {
        "event_id_repeated": 2,
        "event_name_unknown": (count + 1) // 3,
        "item_id_missing": count // 3,
        "price_negative": (count + 2) // 3,
    }
    good = pl.read_parquet(settings.outs_dir / "validated/events.parquet")
    assert good["price"].min() == 2.0


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"event_id": None}, "event_id_missing"),
        ({"event_id": "e5"}, "event_id_repeated"),
        ({"event_time": None}, "event_time_missing"),
        ({"ingested_at": datetime(2024, 7, 1, 11, tzinfo=UTC)}, "ingested_before_it_happened"),
        ({"quantity": -2.0}, "quantity_negative"),
        ({"rating": 9.0}, "rating_out_of_range"),
        ({"dwell_seconds": -0.5}, "dwell_seconds_negative"),
    ],
)
def test_each_rule_finds_its_row(world: Any, params: Params, event: dict[str, Any], reason: str) -> None:
    settings = world(event)
    validate(params, settings)
    aside = pl.read_parquet(settings.outs_dir / "validated/quarantine.parquet")
    assert 0 in aside["row"].to_list()
    assert reason in aside.filter(pl.col("row") == 0)["reasons"][0]


def test_a_search_needs_no_item(world: Any, params: Params) -> None:
    settings = world({"event_name": "search", "item_id": None})
    validate(params, settings)
    assert pl.read_parquet(settings.outs_dir / "validated/quarantine.parquet").is_empty()


def test_a_missing_column_fails_the_run(world: Any, params: Params) -> None:
    settings = world()
    path = settings.outs_dir / "events/events.parquet"
    pl.read_parquet(path).drop("price").write_parquet(path)
    with pytest.raises(BrokenTableError, match=r"table events: expect_column_to_exist\(price\) failed: the column is"):
        validate(params, settings)
    assert not (settings.outs_dir / "validated").exists()


def test_an_empty_table_fails_the_run(world: Any, params: Params) -> None:
    with pytest.raises(
        BrokenTableError, match="row_count_to_be_between failed: it must have at least 1 row, but has 0"
    ):
        validate(params, world(beside=0))


def test_too_many_bad_rows_fail_the_run_with_expectation_count_and_examples(world: Any, params: Params) -> None:
    # 3 of 5 rows are bad: more than half
    settings = world({"price": -1.0}, {"price": -2.5}, {"price": -7.0}, beside=2)
    with pytest.raises(BrokenTableError) as caught:
        validate(params, settings)
    message = str(caught.value)
    assert "3 of 5 rows are bad, more than expectations.max_bad_share 0.5" in message
    assert "expect_column_values_to_be_between(price): 3 rows, for example [-1.0, -2.5, -7.0]" in message


def test_two_items_with_one_id_are_quarantined(world: Any, params: Params) -> None:
    items = pl.DataFrame([{"item_id": k} for k in ("s1", "s2", "s2", "s3", "s4")], schema=ITEM_SCHEMA)
    settings = world(items=items)
    validate(params, settings)
    assert pl.read_parquet(settings.outs_dir / "validated/items.parquet")["item_id"].to_list() == ["s1", "s3", "s4"]


def test_two_runs_leave_the_same_bytes_and_pages_about_the_last(world: Any, params: Params) -> None:
    settings = world({"price": -1.0})
    validate(params, settings)
    first = folder_digest(settings.outs_dir / "validated")
    validate(params, settings)
    assert folder_digest(settings.outs_dir / "validated") == first
    page = data_docs_index(settings)
    assert "events" in page.read_text()
    assert len(list(page.parent.glob("validations/events/**/*.html"))) == 1


def test_a_mostly_unreadable_source_fails_the_run(world: Any, params: Params) -> None:
    settings = world()
    path = settings.outs_dir / "events/account.json"
    counts = {"rows_in": 100, "accepted": 20, "quarantined": {"no_sale": 20, "event_time_not_a_time": 60}}
    write_json(path, {"tables": {"log.csv": counts}, "declared_reasons": ["no_sale"]})
    with pytest.raises(
        BrokenTableError, match=r"log\.csv: 60 of 100 rows could not be read.*event_time_not_a_time, 60"
    ):
        validate(params, settings)
    # rows that the mapping rejects by a rule of its own do not count
    write_json(path, {"tables": {"log.csv": counts}, "declared_reasons": ["no_sale", "event_time_not_a_time"]})
    validate(params, settings)


def _events_per_day(last_day: int) -> list[dict[str, Any]]:
    """Return 56 days of 240 purchases, ten an hour, and a 57th of `last_day` ones."""
    found = []
    for day in range(57):
        count = 240 if day < 56 else last_day
        start = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(days=day)
        moments = [start + timedelta(minutes=1440 * place // count) for place in range(count)]
        found += [{"event_time": moment, "ingested_at": moment} for moment in moments]
    return found


def test_drift_is_reported_and_fails_the_run_when_configured(world: Any, params: Params) -> None:
    settings = world(*_events_per_day(24), beside=0)
    drift = params.expectations.drift.model_copy(update={"on_drift": "fail"})
    strict = params.model_copy(update={"expectations": params.expectations.model_copy(update={"drift": drift})})
    # 2 sqrt(240.375) = 31.01; less and more 9.441: ((21.57) / 2)^2 - 0.375 = 115.9, (40.45 / 2)^2 - 0.375 = 408.7
    with pytest.raises(BrokenTableError, match=r"2024-06-26 volume too low: 24, expected 115 to 409"):
        validate(strict, settings)
    assert not (settings.outs_dir / "validated").exists()
    assert "volume too low" not in drift_page(settings).read_text()
    assert "<td>too low</td><td>volume</td>" in drift_page(settings).read_text()
    validate(params, settings)
    told = read_json(settings.outs_dir / "validated/drift.json")
    assert told["days"] == ["2024-06-26"]
    assert [(one["measure"], one["key"]) for one in told["findings"]] == [
        ("volume", ""),
        ("volume_by_event_name", "purchase"),
    ]
    assert len(list((settings.var_dir / "data_docs/validations/drift").rglob("*.html"))) == 1


def test_days_of_a_lake_are_validated_with_the_same_suites(params: Params, tmp_path: Path) -> None:
    lake, settings = tmp_path / "lake", Settings(root=tmp_path)
    rows = [{**GOOD, "event_id": f"e{k}"} | moment for k, moment in enumerate(_events_per_day(240))]
    bad = [{**rows[k], "event_id": f"bad{k}", "price": -1.0, "amount": -1.0} for k in range(300)]  # days 1 and 2
    events = pl.DataFrame([*rows, *bad], schema=EVENT_SCHEMA)
    append_events(str(lake), "user", events, pl.DataFrame(schema=QUARANTINE_SCHEMA), "one")
    drift = validate_lake(lake, Days(date(2024, 6, 26), date(2024, 6, 26)), params.expectations, settings)
    assert (drift.days, drift.findings) == ([date(2024, 6, 26)], [])
    # 60 of 300 rows of the second day, and each for two reasons
    some = params.expectations.model_copy(update={"max_bad_share": 0.15})
    with pytest.raises(BrokenTableError, match=r"table events: 60 of 300 rows are bad"):
        validate_lake(lake, Days(date(2024, 5, 2), date(2024, 5, 2)), some, settings)
    with pytest.raises(SettingsError, match=r"must name a day with events; .* the lake holds 2024-05-01 to 2024-06-26"):
        validate_lake(lake, Days(first=date(2025, 1, 1)), some, settings)
