"""Preparation: every step by hand on small tables, and bots against a simulation that knows them."""

import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from events.contract import EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.mapping import load_mapping
from events.parquet import GroupedWriter
from expectations.preparation import Prepared, Sketch, find_bots, number_at, prepare, sketch_of
from expectations.quarantine import RowSplit
from shoplens.errors import SettingsError
from shoplens.files import folder_digest
from shoplens.params import BotsParams, MissingParams, OutlierParams, PrepareParams, load_params
from simulator.plan import Plan
from simulator.run import simulate
from tests.read_source import read_source

NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
KEEP = BotsParams(action="keep", events_a_minute=60, dwells_expected=30, hours_a_day=22)
NO_STEPS = PrepareParams(fit_share=1, missing=(), outliers=(), bots=KEEP)


def _with(**steps: Any) -> PrepareParams:
    return NO_STEPS.model_copy(update=steps)


def _write(folder: Path, events: list[dict[str, Any]], **tables: pl.DataFrame) -> dict[str, RowSplit]:
    """Write good tables; return that no row was set quarantined before."""
    rows = [{"event_id": f"e{k}", "event_time": NOON, "attributes": []} | event for k, event in enumerate(events)]
    frames = {
        "events": pl.DataFrame(rows, schema=EVENT_SCHEMA),
        "items": pl.DataFrame(schema=ITEM_SCHEMA),
        "users": pl.DataFrame(schema=USER_SCHEMA),
        **tables,
    }
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return {name: RowSplit(frame.height, np.zeros(0, dtype=np.int64)) for name, frame in frames.items()}


def _run(folder: Path, params: PrepareParams, split: dict[str, RowSplit]) -> tuple[Prepared, pl.DataFrame]:
    quarantine = GroupedWriter(folder / "quarantine.parquet", QUARANTINE_SCHEMA)
    done = prepare(folder, params, split, quarantine)
    quarantine.close()
    return done, pl.read_parquet(folder / "quarantine.parquet")


def _events(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "events.parquet")


def test_without_steps_no_byte_changes(tmp_path: Path) -> None:
    split = _write(tmp_path, [{"price": 1.0}, {"price": 1e9}, {}])
    before = (tmp_path / "events.parquet").read_bytes()
    done, quarantined = _run(tmp_path, _with(outliers=(_far("report"),)), split)
    assert (tmp_path / "events.parquet").read_bytes() == before
    assert (done.report["accounts"]["events"]["rows_out"], quarantined.height) == (3, 0)


@pytest.mark.parametrize(
    ("step", "prices"),
    [
        (MissingParams(column="price", action="constant", value=0.5), [1.0, 0.5, 3.0, 9.0]),
        (MissingParams(column="price", action="median"), [1.0, pytest.approx(3, rel=0.01), 3.0, 9.0]),
        (MissingParams(column="price", action="drop"), [1.0, 3.0, 9.0]),
        (MissingParams(column="price", action="flag"), [1.0, None, 3.0, 9.0]),
    ],
)
def test_missing_values(tmp_path: Path, step: MissingParams, prices: list[Any]) -> None:
    split = _write(tmp_path, [{"price": 1.0}, {"price": None}, {"price": 3.0}, {"price": 9.0}])
    done, quarantined = _run(tmp_path, _with(missing=(step,)), split)
    assert _events(tmp_path)["price"].to_list() == prices
    assert _events(tmp_path).schema == pl.Schema(EVENT_SCHEMA)
    assert done.report["missing"][0]["rows"] == 1
    dropped = [(1, ["price_missing"])] if step.action == "drop" else []
    assert quarantined.select("row", "reasons").rows() == dropped


def test_a_missing_value_is_flagged_among_the_attributes_of_an_event(tmp_path: Path) -> None:
    own = [{"key": "colour", "value": "red"}]
    split = _write(tmp_path, [{"price": None, "attributes": own}, {"price": 1.0}, {"attributes": None}])
    _run(tmp_path, _with(missing=(MissingParams(column="price", action="flag"),)), split)
    note = {"key": "missing", "value": "price"}
    assert _events(tmp_path)["attributes"].to_list() == [[*own, note], [], [note]]


def test_a_missing_value_of_a_user_is_flagged_in_an_extra_column(tmp_path: Path) -> None:
    users = pl.DataFrame([{"user_id": "a", "gender": "f"}, {"user_id": "b"}], schema=USER_SCHEMA)
    steps = (
        MissingParams(table="users", column="gender", action="flag"),
        MissingParams(table="users", column="birth_year", action="constant", value=1980),
    )
    _run(tmp_path, _with(missing=steps), _write(tmp_path, [{}], users=users))
    rows = pl.read_parquet(tmp_path / "users.parquet").select("gender", "birth_year", "gender_missing").rows()
    assert rows == [("f", 1980, "no"), (None, 1980, "yes")]


def _far(action: Any, limit: float = 3.5, by: Any = "robust_z") -> OutlierParams:
    return OutlierParams(column="price", by=by, limit=limit, action=action)


def test_limits_equal_a_hand_calculation(tmp_path: Path) -> None:
    # Levels log(1 + price) are 1, 2, 3, 4, 5 and 9: the third of six is the median, 3; deviations 0, 1, 1, 2, 2 and 6,
    # of which the third is 1; 3 + 3.5 * 1.4826 = 8.19, so that e^9 - 1 lies outside and e^5 - 1 within.
    prices = [math.expm1(level) for level in (1, 2, 3, 4, 5, 9)]
    split = _write(tmp_path, [{"price": price} for price in prices])
    done, _ = _run(tmp_path, _with(outliers=(_far("cap"),)), split)
    (told,) = done.report["outliers"]
    assert (told["rows"], told["high"]) == (1, pytest.approx(math.expm1(3 + 3.5 * 1.4826), rel=0.02))
    assert told["low"] == pytest.approx(-math.expm1(3.5 * 1.4826 - 3), rel=0.02)
    assert _events(tmp_path)["price"].to_list() == [*prices[:5], told["high"]]


def test_the_spread_is_not_zero_when_most_values_are_equal(tmp_path: Path) -> None:
    # The median of the levels is log 2, that of the deviations 0, and the lesser of the two that are not is
    # log 4 - log 2 = 0.693: log 2 + 3.5 * 1.4826 * 0.693 = 4.290, of which the number is 72.
    split = _write(tmp_path, [{"quantity": 1.0}] * 20 + [{"quantity": 3.0}, {"quantity": 1000.0}])
    far = OutlierParams(column="quantity", by="robust_z", limit=3.5, action="quarantine")
    done, quarantined = _run(tmp_path, _with(outliers=(far,)), split)
    assert done.report["outliers"][0]["high"] == pytest.approx(72, rel=0.03)
    assert quarantined.select("row", "reasons").rows() == [(21, ["quantity_outlier"])]


def test_equal_numbers_have_no_outliers(tmp_path: Path) -> None:
    split = _write(tmp_path, [{"price": 5.0}] * 9)
    done, _ = _run(tmp_path, _with(outliers=(_far("quarantine"),)), split)
    assert (done.report["outliers"][0]["low"], done.report["accounts"]["events"]["rows_out"]) == (None, 9)


def test_limits_by_quantiles(tmp_path: Path) -> None:
    split = _write(tmp_path, [{"price": float(price)} for price in range(1, 101)])
    done, quarantined = _run(tmp_path, _with(outliers=(_far("quarantine", 0.05, "quantiles"),)), split)
    (told,) = done.report["outliers"]
    assert (told["low"], told["high"]) == (pytest.approx(5, rel=0.01), pytest.approx(95, rel=0.01))
    assert done.report["accounts"]["events"] == {
        "rows_in": 100,
        "rows_out": 100 - quarantined.height,
        "set_aside": {"price_outlier": quarantined.height},
    }


def test_limits_are_fitted_on_earlier_rows(tmp_path: Path) -> None:
    """Ten days; what the last three bring must not move a limit that the first seven give."""
    early = [{"event_time": NOON + timedelta(days=day), "price": 10.0 + day} for day in range(8)]

    def high(folder: Path, late: float) -> float:
        folder.mkdir()
        rows = [*early, *[{"event_time": NOON + timedelta(days=9 + k / 100), "price": late} for k in range(100)]]
        params = _with(
            fit_share=0.7, outliers=(_far("report"),), missing=(MissingParams(column="price", action="median"),)
        )
        done, _ = _run(folder, params, _write(folder, rows))
        return float(done.report["outliers"][0]["high"]) + float(done.report["missing"][0]["value"])

    assert high(tmp_path / "a", 11.0) == high(tmp_path / "b", 1e6)


def test_quarantined_rows_keep_their_row_numbers_in_the_source(tmp_path: Path) -> None:
    # Rows 1, 2 and 5 of eight failed an expectation, so that those left, 0 3 4 6 7, lie at 0 1 2 3 4.
    split = _write(tmp_path, [{"price": p} for p in (1.0, None, 1.0, None, None)])
    split["events"] = RowSplit(8, np.array([1, 2, 5]))
    _, quarantined = _run(tmp_path, _with(missing=(MissingParams(column="price", action="drop"),)), split)
    assert quarantined["row"].to_list() == [3, 6, 7]


def test_two_runs_leave_the_same_bytes(tmp_path: Path) -> None:
    steps = _with(
        outliers=(_far("cap"), OutlierParams(column="quantity", by="quantiles", limit=0.01, action="quarantine")),
        missing=(MissingParams(column="platform", action="constant", value="unknown"),),
        bots=KEEP.model_copy(update={"action": "exclude"}),
    )
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = [{"user_id": f"u{k % 7}", "price": float(k % 50), "quantity": float(k % 9)} for k in range(2000)]
        _run(tmp_path / name, steps, _write(tmp_path / name, rows))
        digests.append(folder_digest(tmp_path / name))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"missing": (MissingParams(column="colour", action="drop"),)},
            "must exist in table events; received 'colour'",
        ),
        (
            {"missing": (MissingParams(column="platform", action="median"),)},
            "requires a numeric column; 'platform'",
        ),
        (
            {"missing": (MissingParams(column="price", action="constant", value="x"),)},
            "must be of type Float64; received 'x'",
        ),
    ],
)
def test_a_step_that_does_not_suit_the_table_is_rejected(tmp_path: Path, steps: dict[str, Any], message: str) -> None:
    split = _write(tmp_path, [{}])
    with pytest.raises(SettingsError, match=message):
        _run(tmp_path, _with(**steps), split)


def test_a_sketch_is_accurate_to_one_percent() -> None:
    sketch = sketch_of(pl.LazyFrame({"price": [12.34, None, math.nan, math.inf]}), "price")
    assert sketch.counts.sum() == 1
    assert number_at(sketch.quantile(0.5)) == pytest.approx(12.34, rel=0.01)
    assert math.isnan(Sketch().quantile(0.5))


def _browsing(user: str, moments: list[datetime], **more: Any) -> list[dict[str, Any]]:
    return [{"user_id": user, "event_time": m, "event_name": "view_item", "platform": "web", **more} for m in moments]


def test_bots_are_found_by_their_behaviour(tmp_path: Path) -> None:
    minute = [NOON + timedelta(seconds=k) for k in range(60)]
    day = [NOON.replace(hour=hour) for hour in range(22)]
    slow = [NOON + timedelta(days=k) for k in range(40)]
    events = [
        *_browsing("fast", minute, dwell_seconds=1.0),
        *_browsing("not quite", minute[:59], dwell_seconds=1.0),
        *_browsing("sleepless", day, dwell_seconds=9.0),
        *_browsing("sleeps", day[:21], dwell_seconds=9.0),
        *_browsing("idle", slow),  # 40 views on web, where 202 of 242 have a dwell time: 33.4 would have one
        *[{"user_id": "big basket", "event_name": "purchase", "event_time": NOON}] * 500,
        *_browsing("on an app without dwell times", slow, platform="ios"),
    ]
    _write(tmp_path, events)
    found = find_bots(tmp_path / "events.parquet", KEEP)
    assert found.select("user", "reasons").rows() == [
        ("fast", ["too_fast"]),
        ("idle", ["never_dwells"]),
        ("sleepless", ["never_sleeps"]),
    ]
    assert found["dwells_expected"][1] == pytest.approx(40 * 162 / 202, abs=0.001)


@pytest.mark.parametrize(("action", "left"), [("keep", 63), ("flag", 63), ("exclude", 3)])
def test_bots_are_kept_flagged_or_excluded(tmp_path: Path, action: Any, left: int) -> None:
    events = [*_browsing("bot", [NOON + timedelta(seconds=k) for k in range(60)]), *_browsing("ann", [NOON] * 3)]
    split = _write(tmp_path, events)
    done, quarantined = _run(tmp_path, _with(bots=KEEP.model_copy(update={"action": action})), split)
    assert done.report["accounts"]["events"]["rows_out"] == _events(tmp_path).height == left
    assert pl.read_parquet(tmp_path / "bots.parquet")["user"].to_list() == ([] if action == "keep" else ["bot"])
    assert quarantined["reasons"].to_list() == [["bot_like"]] * (63 - left)


@pytest.fixture(scope="module")
def with_bots(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A simulated log, and the visitors in it that are none in the same shop without bots."""
    out = tmp_path_factory.mktemp("bots")
    mapping = load_mapping(root / "events/mappings/simulated.yaml")
    visitors = []
    for share in (0.05, 0.0):
        plan = Plan(users=200, items=60, days=20, seed=5, start=date(2025, 3, 1), bots=share)
        simulate(plan, out / f"{share}")
        events = read_source(mapping, [out / f"{share}"]).events
        visitors.append(set(events["anonymous_id"].drop_nulls()))
        if share:
            events.write_parquet(out / "events.parquet")
    return out / "events.parquet", visitors[0] - visitors[1]


def test_exactly_the_bots_of_a_simulation_are_found(root: Path, with_bots: tuple[Path, set[str]]) -> None:
    events, bots = with_bots
    found = find_bots(events, load_params(root / "params.yaml").prepare.bots)
    assert len(bots) == 10
    assert set(found["user"]) == bots
