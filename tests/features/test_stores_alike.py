"""SQLite and Redis through Feast, the reader and the commands: the same content, the same answers, the same errors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from pydantic import SecretStr

from events.lake import Snapshot, append_events
from features.catalogue import Catalogue
from features.definitions import VIEWS
from features.erase import erase_user
from features.materialize import materialize
from features.online import OnlineReader
from features.online_stores.rows import LiveEvent
from features.online_stores.views import Row
from features.store import in_use, online_stores, open_rows, open_store, places
from shoplens.errors import SettingsError, StoreUnavailableError
from shoplens.settings import Settings
from tests.lake_content import read_events
from tests.store_digest import store_digest

LATELY = 1_704_700_000_000_000  # 2024-01-08 07:46:40
DAILY = [view.name for view in VIEWS if view.keys == ("user_id",)]  # of a user

pytestmark = pytest.mark.stores


def with_redis(settings: Settings, url: str, var: str = "var") -> Settings:
    return Settings(
        root=settings.root, outs=settings.outs, var=Path(var), online_store="redis", redis_url=SecretStr(url)
    )


@pytest.fixture(params=["sqlite", "redis"])
def shop(request: pytest.FixtureRequest, story: Any) -> Iterator[Any]:
    """The shop of `story`, whose online store is SQLite or Redis."""
    if request.param == "sqlite":
        yield story
        return
    changed = type(story)(with_redis(story.settings, request.getfixturevalue("redis_url")), story.params)
    yield changed
    for name in online_stores(changed.settings):
        open_rows(changed.settings, name).remove()


def read(shop: Any, user: str) -> Any:
    catalogue = Catalogue.load(shop.features_dir / "catalogue.parquet")
    return OnlineReader(shop.settings).read(user, catalogue)


def test_feast_reads_and_writes_what_the_reader_reads(shop: Any) -> None:
    assert materialize(shop.settings).values > 100
    feast = open_store(shop.settings)
    service = feast.get_feature_service("user_state")
    answer = feast.get_online_features(service, [{"user_id": "ann"}, {"user_id": "nobody"}]).to_dict()
    state = read(shop, "ann")
    assert {name: None if answer[name][0] is None else answer[name][0] for name in state.features} == state.features
    assert {answer[name][1] for name in state.features} == {None}
    assert answer["recent_item_ids"][0] == ["bread", "milk", "pen", "bread"]
    digest = store_digest(shop.settings)
    start, end = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2023-12-01", "2024-01-06"))
    feast.materialize(start, end)  # an older window: Feast's own way in, and nothing newer is put back
    assert store_digest(shop.settings) == digest
    assert feast.get_feature_view("user_behaviour").materialization_intervals


def test_both_stores_hold_the_same_by_digest(story: Any, redis_url: str) -> None:
    materialize(story.settings)
    other = with_redis(story.settings, redis_url, "var-redis")
    materialize(other)
    assert store_digest(other) == store_digest(story.settings)
    rows = open_rows(other)
    (profiles,) = rows.read([rows.views()["user_profile"]], ["ann"])
    rows.erase("bob")
    assert store_digest(other) != store_digest(story.settings)
    assert profiles["ann"].event_micros == 1_704_067_200_000_000  # 2024-01-01, the day on which the data begin
    rows.remove()
    with pytest.raises(StoreUnavailableError, match="has lost its loaded rows"):
        OnlineReader(other).read("ann", Catalogue.load(story.features_dir / "catalogue.parquet"))
    assert materialize(other).changed
    assert store_digest(other) == store_digest(story.settings)


def event(event_id: str, micros: int, user: str = "ann") -> LiveEvent:
    return LiveEvent(user, micros, micros, event_id, "ink", "view_item", 0.0, 0.0, "s9")


def items_of(shop: Any, user: str = "ann") -> list[str]:
    """The recent items of a user as Feast reads them, which the reader agrees with."""
    feast = open_store(shop.settings)
    (items,) = feast.get_online_features(["recent_events:recent_item_ids"], [{"user_id": user}]).to_dict()[
        "recent_item_ids"
    ]
    catalogue = Catalogue.load(shop.features_dir / "catalogue.parquet")
    assert [catalogue.item_id(int(index)) for index in read(shop, user).history.log.item_index] == items
    return list(items)


def test_live_events_outlive_every_load_of_earlier_data(shop: Any) -> None:
    materialize(shop.settings)
    assert items_of(shop) == ["bread", "milk", "pen", "bread"]
    before = int(pd.Timestamp("2024-01-08 10:00", tz="UTC").value // 1000)
    rows = open_rows(shop.settings)
    rows.append([event("x1", before), event("x2", before + 1_000_000)])
    assert items_of(shop) == ["milk", "pen", "bread", "ink", "ink"]
    view = rows.views()["recent_events"]
    rows.write(view, pl.read_parquet(shop.features_dir / "recent_events.parquet").to_arrow().to_batches()[0])
    assert items_of(shop) == ["milk", "pen", "bread", "ink", "ink"]
    rows.close()
    first = in_use(shop.settings)
    # The next load knows until between the two: the first is its own to know, the second is carried over.
    shop.put(pl.read_parquet(shop.validated / "events.parquet"), end=pd.Timestamp(before + 1, unit="us", tz="UTC"))
    shop.build()
    assert materialize(shop.settings).changed
    assert items_of(shop) == ["bread", "milk", "pen", "bread", "ink"]
    assert online_stores(shop.settings) == sorted([first, in_use(shop.settings)])


def test_two_stores_live_side_by_side_and_the_third_load_removes_the_first(shop: Any) -> None:
    catalogue = Catalogue.load(shop.features_dir / "catalogue.parquet")
    digests = [materialize(shop.settings).digest]
    events = pl.read_parquet(shop.validated / "events.parquet")
    for day in (9, 10):
        shop.put(events, end=pd.Timestamp(f"2024-01-{day:02}", tz="UTC").to_pydatetime())
        shop.build()
        digests.append(materialize(shop.settings).digest)
        kept = sorted(digest[:16] for digest in digests[-2:])
        assert online_stores(shop.settings) == kept
        assert sorted(path.name[:16] for path in places(shop.settings).offline.glob("*[!t]")) == kept
        for digest in digests[-2:]:
            state = OnlineReader(shop.settings, digest).read("ann", catalogue)
            assert state is not None
            assert state.features["city"] == "Ulm"
    days = [OnlineReader(shop.settings, digest).now() for digest in digests[-2:]]
    assert [str(day)[:10] for day in days] == ["2024-01-09", "2024-01-10"]
    with pytest.raises(StoreUnavailableError):
        OnlineReader(shop.settings, digests[0]).read("ann", catalogue)
    report = erase_user(shop.settings, "ann")
    assert [sum(views.values()) for views in report.online.values()] == [len(DAILY) + 2] * 2
    assert OnlineReader(shop.settings, digests[1]).read("ann", catalogue) is None


def test_a_store_whose_load_was_killed_is_unavailable(shop: Any) -> None:
    catalogue = Catalogue.load(shop.features_dir / "catalogue.parquet")
    digest = materialize(shop.settings).digest
    killed = "0" * 64
    places(shop.settings).online_store(shop.settings, killed[:16]).touch()
    rows, used = open_rows(shop.settings, killed[:16]), open_rows(shop.settings)
    profile = used.views()["user_profile"]
    (profiles,) = used.read([profile], ["ann"])
    rows.write(profile, profile.batch(list(profiles.values())))
    with pytest.raises(StoreUnavailableError, match="must hold a completed load"):
        OnlineReader(shop.settings, killed).read("ann", catalogue)
    rows.finish(used.state() or {})  # of other data than the reader asks for
    with pytest.raises(StoreUnavailableError, match="must hold a completed load"):
        OnlineReader(shop.settings, killed).read("ann", catalogue)
    assert OnlineReader(shop.settings, digest).read("ann", catalogue) is not None


def test_recent_events_are_fresh_up_to_the_microsecond(shop: Any) -> None:
    materialize(shop.settings)
    where = places(shop.settings)
    state = json.loads(where.state.read_text())
    known = pd.Timestamp("2024-01-05 12:00", tz="UTC")  # when ann's last event became known
    for age, fresh in ((timedelta(days=90), True), (timedelta(days=90, microseconds=1), False)):
        where.state.write_text(json.dumps({**state, "high_water": (known + age).isoformat()}))
        ann = read(shop, "ann")
        assert bool(ann.history.lengths.any()) == fresh
        assert ann.features["city"] == "Ulm"  # a profile never expires
        assert read(shop, "nobody") is None


def test_data_that_take_something_back_get_a_store_of_their_own(shop: Any) -> None:
    materialize(shop.settings)
    first = in_use(shop.settings)
    events = pl.read_parquet(shop.validated / "events.parquet")
    shop.put(events.filter(pl.col("user_id") != "bob"), end=pd.Timestamp("2024-01-08", tz="UTC").to_pydatetime())
    shop.build()
    assert materialize(shop.settings).changed
    assert in_use(shop.settings) != first
    assert read(shop, "bob") is None


def test_a_store_out_of_reach_is_unavailable_and_no_password_is_told(story: Any, tmp_path: Path) -> None:
    away = with_redis(story.settings, f"unix://:s3cret@{tmp_path}/nobody.sock")
    assert "s3cret" not in repr(away)
    with pytest.raises(StoreUnavailableError) as caught:
        materialize(away)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(open_store(away).config)
    assert read_nothing(away)
    wrong = with_redis(story.settings, "redis:/:s3cret@host", "var-2")
    with pytest.raises(SettingsError) as refused:
        materialize(wrong)
    assert "s3cret" not in str(refused.value)


def read_nothing(settings: Settings) -> bool:
    """Say whether a store that nothing was loaded into refuses to be read."""
    with pytest.raises(StoreUnavailableError):
        OnlineReader(settings).now()
    return True


def _lake(shop: Any) -> str:
    lake = str(shop.settings.lake_dir)
    events = pl.read_parquet(shop.validated / "events.parquet")
    from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA

    full = events.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in EVENT_SCHEMA.items() if name not in events.columns
    ).select(pl.col(name).cast(kind) for name, kind in EVENT_SCHEMA.items())
    raws = [
        '{"user": "ann", "n": 1}',
        '{"user": "joanna", "about": ["ann"]}',
        '{"user": "bob", "word": "annual"}',
        "ann,?",
    ]
    aside = pl.DataFrame(
        [{"table": "live", "row": n, "reasons": ["x"], "raw": raw} for n, raw in enumerate(raws)], QUARANTINE_SCHEMA
    )
    append_events(lake, "user", full, aside, "one")
    return lake


def test_one_person_goes_from_everywhere_and_does_not_come_back(shop: Any) -> None:
    lake = _lake(shop)
    materialize(shop.settings)
    assert read(shop, "ann") is not None
    open_rows(shop.settings).append([event("x1", LATELY)])
    report = erase_user(shop.settings, "ann")
    (online,) = report.online.values()
    assert online == dict.fromkeys((*DAILY, "user_profile", "recent_events", "live_events"), 1)
    # The daily views: the 6th, 7th and 8th are alive. The profile and the last events have one row each.
    assert sum(report.offline.values()) == 3 * len(DAILY) + 2
    assert report.lake is not None
    assert (report.lake.events, report.lake.days) == (4, ["2024-01-01", "2024-01-05"])
    assert report.lake.quarantined == 3  # by name, in a list, and as a word of what is no JSON; 'annual' is nobody
    assert set(read_events(lake)["user_id"]) == {"bob"}
    assert Snapshot(lake).quarantine()["raw"].to_list() == ['{"user": "bob", "word": "annual"}']
    assert all(b"ann" not in path.read_bytes() for path in Path(lake).rglob("event_date=*/*.parquet"))
    assert "outs/features/recent_events.parquet" in report.recompute
    assert read(shop, "ann") is None
    again = erase_user(shop.settings, "ann")
    assert not any(sum(views.values()) for views in again.online.values())
    assert (again.offline, again.lake.events if again.lake else None) == ({}, 0)
    rows = open_rows(shop.settings)  # late pushes, of an event and through Feast's interface, are rejected
    rows.append([event("x2", LATELY)])
    recent = rows.views()["recent_events"]
    rows.write(recent, recent.batch([Row("ann", LATELY, ([],) * 7)]))
    assert read(shop, "ann") is None
    shop.put(pl.read_parquet(shop.validated / "events.parquet"), source="the same people, another source")
    shop.build()
    assert materialize(shop.settings).changed  # all anew, from data that still hold ann
    assert read(shop, "ann") is None
    tombstones = places(shop.settings).erased
    assert len(json.loads(tombstones.read_text())) == 1
    assert "ann" not in tombstones.read_text()


def test_a_tombstone_is_lifted_when_the_data_name_the_person_no_more(shop: Any) -> None:
    materialize(shop.settings)
    erase_user(shop.settings, "ann")
    events, users = (pl.read_parquet(shop.validated / f"{name}.parquet") for name in ("events", "users"))
    shop.put(events.filter(pl.col("user_id") != "ann"), users.filter(pl.col("user_id") != "ann"))
    shop.build()
    materialize(shop.settings)  # known until before ann was erased: the tombstone stays
    assert len(json.loads(places(shop.settings).erased.read_text())) == 1
    end = pd.Timestamp("2024-01-09", tz="UTC").to_pydatetime()
    shop.put(events.filter(pl.col("user_id") != "ann"), users.filter(pl.col("user_id") != "ann"), end=end)
    shop.build()
    materialize(shop.settings)
    assert json.loads(places(shop.settings).erased.read_text()) == {}
    open_rows(shop.settings).append([event("x1", LATELY)])  # a person who comes again is new
    assert items_of(shop) == ["ink"]


def test_the_command_takes_the_id_from_standard_input_and_says_nothing_of_it(story: Any, root: Path) -> None:
    materialize(story.settings)
    environment = {**os.environ, "SHOPLENS_root": str(story.settings.root)}
    command = [sys.executable, "-c", "from shoplens.cli import main; main()", "erase", "-"]
    done = subprocess.run(command, env=environment, cwd=root, input="bob\n", capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert sum(report["online"][in_use(story.settings)].values()) == len(DAILY) + 2
    assert "bob" not in done.stdout + done.stderr
    assert report["lake"] is None
    unknown = subprocess.run(
        command, env=environment, cwd=root, input="nobody\n", capture_output=True, text=True, check=False
    )
    assert (unknown.returncode, "the ID is wrong" in unknown.stderr) == (1, True)
    assert "nobody" not in unknown.stdout + unknown.stderr
    empty = subprocess.run(command, env=environment, cwd=root, input="\n", capture_output=True, text=True, check=False)
    assert (empty.returncode, "must not be empty" in empty.stderr) == (1, True)
