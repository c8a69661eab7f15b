"""The online store on real stores: newest wins, idempotent, unknown apart from unreachable, nothing stale."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from features.catalogue import Catalogue
from features.definitions import VIEWS
from features.histories import recent_as_of
from features.materialize import materialize
from features.online import OnlineReader
from features.repo import historical_features
from features.store import open_store, places
from shoplens.errors import FeatureError, StoreUnavailableError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings
from tests.store_digest import store_digest

pytestmark = pytest.mark.stores


@pytest.fixture
def catalogue(story: Any) -> Catalogue:
    return Catalogue.load(story.features_dir / "catalogue.parquet")


def test_point_in_time_join_keeps_order_and_looks_back_only(story: Any) -> None:
    keys = pl.DataFrame(
        {
            "user_id": ["bob", "ann", "nobody", "bob", "ann", "ann"],
            "event_timestamp": [
                *["2024-01-05 00:00:00", "2024-01-05 23:59:59", "2024-01-06 00:00:00"],
                *["2024-01-04 23:59:59", "2024-01-01 12:00:00", "2024-01-05 23:59:59"],
            ],
        }
    ).with_columns(pl.col("event_timestamp").str.to_datetime(time_unit="us", time_zone="UTC"))
    found = historical_features(keys, story.features_dir, "purchase")
    # Bob's late ink counts from the snapshot of the 5th; Ann's o2 of the 5th only from that of the 6th.
    assert found["spend_7d"].to_list() == [9.0, 5.0, None, 2.0, None, 5.0]
    assert "top_category_90d" not in found.columns
    with pytest.raises(FeatureError, match="received 'tea'"):
        historical_features(keys, story.features_dir, "tea")


def test_online_equals_offline(story: Any, catalogue: Catalogue) -> None:
    report = materialize(story.settings)
    assert (report.changed, report.users) == (True, 2)
    reader = OnlineReader(story.settings)
    now = reader.now()
    assert now == np.datetime64("2024-01-08T00:00:00", "us")
    events = pl.read_parquet(story.validated / "events.parquet")
    for user in ("ann", "bob"):
        state = reader.read(user, catalogue)
        assert state is not None
        assert state.snapshot_time == np.datetime64("2024-01-08", "us")
        for view in ("user_behaviour", "user_preference"):
            row = story.snapshot(view, user, "2024-01-08")
            assert {
                k: v for k, v in row.items() if k not in {"user_id", "event_timestamp"}
            }.items() <= state.features.items()
        batch = recent_as_of(events, [user], np.array([now]), story.params.features.last_n, catalogue)
        for name in ("item_index", "event_code", "event_time", "quantity", "amount", "order_code"):
            assert getattr(batch, name).tobytes() == getattr(state.history.window(batch.n), name).tobytes(), name


def test_unknown_known_only_by_profile_and_missing_store(story: Any, catalogue: Catalogue) -> None:
    reader = OnlineReader(story.settings)
    with pytest.raises(StoreUnavailableError, match="run `shoplens materialize`"):
        reader.read("ann", catalogue)
    materialize(story.settings)
    assert reader.read("nobody", catalogue) is None
    quiet = reader.read("quiet", catalogue)
    assert quiet is not None
    assert (quiet.features["city"], quiet.features["purchases_7d"], bool(len(quiet.history.log))) == (
        "Bonn",
        None,
        False,
    )
    places(story.settings).online.unlink()
    with pytest.raises(StoreUnavailableError):
        reader.read("ann", catalogue)


def test_a_broken_store_is_unavailable_not_empty(story: Any, catalogue: Catalogue) -> None:
    materialize(story.settings)
    places(story.settings).online.resolve().write_bytes(b"this is no database" * 500)
    with pytest.raises(StoreUnavailableError):
        OnlineReader(story.settings).read("ann", catalogue)


def test_an_expired_snapshot_is_missing(story: Any, catalogue: Catalogue) -> None:
    materialize(story.settings)
    where = places(story.settings)
    state = json.loads(where.state.read_text())
    reader = OnlineReader(story.settings)
    for later, there in ((timedelta(days=2), True), (timedelta(days=2, microseconds=1), False)):
        moment = pd.Timestamp("2024-01-08", tz="UTC") + later
        where.state.write_text(json.dumps({**state, "high_water": moment.isoformat()}))
        found = reader.read("ann", catalogue)
        assert found is not None
        assert (found.features["purchases_7d"] is not None) == there
        assert np.isnat(found.snapshot_time) != there
        assert found.history.lengths.tolist() == [4]  # a year of events would do: they live for active_days
    wall = OnlineReader(story.settings.model_copy(update={"clock": "wall"})).read("ann", catalogue)
    assert wall is not None
    assert not wall.history.lengths.any()  # years later, only the profile is left
    assert wall.features["gender"] == "f"


def _push(settings: Settings, when: str, item: str) -> None:
    moment = pd.Timestamp(when, tz="UTC")
    row = {
        "user_id": ["ann"], "event_timestamp": [moment], "recent_event_ids": [[f"e-{item}"]],
        "recent_item_ids": [[item]],
        "recent_event_names": [["view_item"]], "recent_event_times": [[moment.value // 1000]],
        "recent_quantities": [[0.0]], "recent_amounts": [[0.0]], "recent_order_keys": [["s9"]],
    }  # fmt: skip
    open_store(settings).push("recent_events_push", pd.DataFrame(row))


def test_newest_wins(story: Any, catalogue: Catalogue) -> None:
    materialize(story.settings)
    reader = OnlineReader(story.settings)

    def last_item() -> str:
        state = reader.read("ann", catalogue)
        assert state is not None
        return catalogue.item_id(int(state.history.log.item_index[-1]))

    assert last_item() == "bread"
    _push(story.settings, "2024-01-07 10:00:00.000002", "milk")
    assert last_item() == "milk"
    _push(story.settings, "2024-01-07 10:00:00.000001", "ink")  # a microsecond older: refused
    assert last_item() == "milk"
    start, end = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2023-12-01", "2024-01-06"))
    open_store(story.settings).materialize(start, end, feature_views=["recent_events", "user_behaviour"])
    assert last_item() == "milk"
    state = reader.read("ann", catalogue)
    assert state is not None
    assert state.snapshot_time == np.datetime64("2024-01-08", "us")
    _push(story.settings, "2024-01-07 10:00:00.000002", "pen")  # the same moment again: a correction
    assert last_item() == "pen"


def test_the_same_again_changes_nothing_and_new_data_is_seen_by_a_running_reader(
    story: Any, catalogue: Catalogue
) -> None:
    first = materialize(story.settings)
    reader = OnlineReader(story.settings)
    assert reader.read("ann", catalogue) is not None
    again = materialize(story.settings)
    assert (again.changed, again.digest, again.users) == (False, first.digest, first.users)
    assert again.seconds < 1
    events = pl.read_parquet(story.validated / "events.parquet")
    new = events.tail(1).with_columns(
        event_id=pl.lit("e9999"), event_time=pl.datetime(2024, 1, 8, 9, time_zone="UTC", time_unit="us"),
        item_id=pl.lit("ink"), user_id=pl.lit("ann"),
    ).with_columns(ingested_at="event_time")  # fmt: skip
    story.put(pl.concat([events, new]))
    story.build()
    assert materialize(story.settings).changed
    state = reader.read("ann", Catalogue.load(story.features_dir / "catalogue.parquet"))
    assert state is not None
    assert state.history.log.event_time[-1] == np.datetime64("2024-01-08T09:00", "us")
    assert reader.now() == np.datetime64("2024-01-08T09:00:00.000001", "us")


def test_what_a_correction_takes_back_is_gone_online_too(story: Any, catalogue: Catalogue) -> None:
    materialize(story.settings)
    reader = OnlineReader(story.settings)
    before = reader.read("ann", catalogue)
    assert before is not None
    events = pl.read_parquet(story.validated / "events.parquet")
    last = events.filter(pl.col("user_id") == "ann")["event_id"][-1]
    story.put(events.filter((pl.col("event_id") != last) & (pl.col("user_id") != "bob")))
    story.build()
    assert materialize(story.settings).changed
    after = reader.read("ann", catalogue)
    assert after is not None
    assert after.history.lengths.sum() == before.history.lengths.sum() - 1
    assert reader.read("bob", catalogue) is None


def test_another_source_does_not_mix_with_the_old_one(story: Any, catalogue: Catalogue) -> None:
    materialize(story.settings)
    reader = OnlineReader(story.settings)
    assert reader.read("bob", catalogue) is not None
    events = pl.read_parquet(story.validated / "events.parquet").filter(pl.col("user_id") == "ann")
    users = pl.read_parquet(story.validated / "users.parquet").filter(pl.col("user_id") == "ann")
    story.put(events, users, source="another")
    story.build()
    materialize(story.settings)
    assert reader.read("bob", catalogue) is None
    assert reader.read("ann", catalogue) is not None


def test_killed_anywhere_and_run_again(story: Any, catalogue: Catalogue, root: Path) -> None:
    """SIGKILL after ever longer times; then one run to the end gives what a run without kills gives."""
    environment = {**os.environ, "SHOPLENS_root": str(story.settings.root)}
    command = [sys.executable, "-c", "from shoplens.cli import main; main()", "materialize"]
    for seconds in (2.0, 3.0, 3.6, 4.2):
        child = subprocess.Popen(
            command, env=environment, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["users"] == 2
    clean = story.settings.model_copy(update={"var": Path("var-clean")})
    clean = Settings(root=clean.root, outs=clean.outs, var=clean.var)
    assert materialize(clean).digest == report["digest"]
    assert store_digest(clean) == store_digest(story.settings)
    for user in ("ann", "bob", "quiet"):
        one, other = (OnlineReader(s).read(user, catalogue) for s in (story.settings, clean))
        assert one is not None
        assert other is not None
        assert one.features == other.features
        assert one.history.log.item_index.tolist() == other.history.log.item_index.tolist()


@pytest.mark.parametrize("lost", ["registry.db", "online.db", "the store", "state.json", "all"])
def test_a_load_restores_whatever_was_deleted(story: Any, catalogue: Catalogue, lost: str) -> None:
    first = materialize(story.settings)
    where = places(story.settings)
    before, digest = OnlineReader(story.settings).read("ann", catalogue), store_digest(story.settings)
    if lost == "all":
        shutil.rmtree(where.home)
    else:
        (where.online.resolve() if lost == "the store" else where.home / lost).unlink()
    again = materialize(story.settings)
    assert (again.changed, again.digest, again.rows) == (True, first.digest, first.rows)
    assert store_digest(story.settings) == digest
    after = OnlineReader(story.settings).read("ann", catalogue)
    assert before is not None
    assert after is not None
    assert after.features == before.features
    feast = open_store(story.settings)
    answer = feast.get_online_features(feast.get_feature_service("user_state"), [{"user_id": "ann"}]).to_dict()
    assert answer["recent_item_ids"][0] == ["bread", "milk", "pen", "bread"]
    assert not materialize(story.settings).changed


@pytest.mark.parametrize("intact", [0, 4096], ids=["is no database", "has a header only"])
def test_a_damaged_store_of_a_killed_load_is_loaded_again(story: Any, catalogue: Catalogue, intact: int) -> None:
    first = materialize(story.settings)
    where, digest = places(story.settings), store_digest(story.settings)
    damaged = where.online.resolve()
    where.online.unlink()  # a killed load has not switched to its store
    where.state.unlink()
    damaged.write_bytes(damaged.read_bytes()[:intact] + b"torn" * 4096)
    lines: list[str] = []
    again = materialize(story.settings, lines.append)
    assert (again.changed, again.values) == (True, first.values)
    assert store_digest(story.settings) == digest
    assert "has been removed" in lines[0]
    assert OnlineReader(story.settings).read("ann", catalogue) is not None


def test_a_load_applies_a_changed_definition(story: Any, catalogue: Catalogue) -> None:
    first = materialize(story.settings)
    reader = OnlineReader(story.settings)
    assert "street" not in reader.read("ann", catalogue).features  # type: ignore[union-attr]
    users = pl.read_parquet(story.validated / "users.parquet").with_columns(street=pl.lit("Main St"))
    story.put(pl.read_parquet(story.validated / "events.parquet"), users)
    story.build()
    path = story.features_dir / "features.json"
    write_json(path, read_json(path) | {"owners": {"default": "data-team"}})
    again = materialize(story.settings)
    assert again.changed
    assert again.digest != first.digest
    assert reader.read("ann", catalogue).features["street"] == "Main St"  # type: ignore[union-attr]
    view = open_store(story.settings).get_feature_view("user_profile")
    assert "street" in {field.name for field in view.features}
    assert view.owner == "data-team"


def test_feasts_own_command_line_applies_the_same_repo(story: Any, catalogue: Catalogue, root: Path) -> None:
    materialize(story.settings)
    repo = story.settings.root / "features"
    repo.mkdir()
    for name in ("feature_store.yaml", "feast_objects.py", ".feastignore"):
        (repo / name).write_bytes((root / "features" / name).read_bytes())
    environment = {**os.environ, "SHOPLENS_root": str(story.settings.root), "PYTHONPATH": str(root)}
    feast = [str(Path(sys.executable).parent / "feast"), "-c", str(repo)]
    done = subprocess.run([*feast, "apply"], env=environment, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Applying changes for project shoplens" in done.stdout
    assert OnlineReader(story.settings).read("ann", catalogue) is not None
    assert not materialize(story.settings).changed


def test_feast_knows_the_owner_of_every_view(story: Any) -> None:
    from features.repo import definitions

    path = story.features_dir / "features.json"
    write_json(path, read_json(path) | {"owners": {"default": "data-team", "user_search": "search-team"}})
    owners = {name: view.owner for name, view in definitions(story.features_dir).views.items()}
    assert owners.pop("user_search") == "search-team"
    assert set(owners.values()) == {"data-team"}


def test_definitions_have_short_lives_and_meanings(story: Any, new_shop: Callable[..., Any]) -> None:
    from features.repo import definitions

    repo = definitions(story.features_dir)
    assert {name: view.ttl.days for name, view in repo.views.items()} == {
        **{view.name: 8 if view.name == "item_activity" else 2 for view in VIEWS},
        "user_profile": 0,
        "recent_events": 90,
    }
    for view in repo.views.values():
        assert view.description
        assert all(field.description for field in view.features)
