"""Lakes of an older ShopLens are read, appended to and migrated; those of a newer one are refused."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.contract import EVENT_SCHEMA
from events.lake import (
    append,
    freeze_lake,
    lake_accounts,
    lake_digest,
    lake_quarantine,
    lake_version,
    read_events,
    touched_days,
)
from events.lake.manifest import newest
from events.lake.store import LocalStore
from events.lake.vacuum import vacuum
from events.mapping import Mapping
from shoplens.errors import SourceError
from tests.read_source import Ingested, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]

TABLES = """\
events:
  - table: "*"
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku, experiment_id: test}
    constants: {event_name: view_item}
    items: {brand: brand}
"""
HEAD = "id,ts,who,sku,brand,test"
ROWS = ["1,2024-07-01 10:00:00,ann,a,acme,", "2,2024-07-02 10:00:00,bob,b,,", "3,soon,bob,b,,"]
CHILD = """\
import os, signal, sys
from events.lake import lake_version

lake, stop, touches = sys.argv[1], int(sys.argv[2]), 0

def watch(event, args):
    global touches
    if event in ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir") and lake in str(args[0]):
        touches += 1
        if touches == stop:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
lake_version(lake)
sys.stdout.write(str(touches))
"""


def write_older(lake: Path, done: Ingested) -> None:
    """Write a lake as it was before it had versions, and before the contract had experiment_id."""
    old = done.events.drop("experiment_id").with_columns(pl.col("event_time").dt.date().cast(pl.String).alias("date"))
    for (day,), rows in old.partition_by("date", as_dict=True, include_key=False).items():
        place = lake / f"events/event_date={day}/part.parquet"
        place.parent.mkdir(parents=True)
        rows.write_parquet(place)
    for name in ("items", "item_table", "item_content", "users", "campaigns"):
        getattr(done, name).write_parquet(lake / f"{name}.parquet")
    done.quarantined.write_parquet(lake / "quarantine.parquet")
    tables = {table: account.as_json() for table, account in done.accounts.items()}
    account = [{"mapping": "shop", "inputs": done.digest, "tables": tables}]
    (lake / "accounts.json").write_text(json.dumps(account))
    (lake / "lake.json").write_text('{"identity": "user"}')
    (lake / ".lock").touch()


@pytest.fixture
def source(mapping_of: Load, write: Write) -> tuple[Mapping, Path]:
    return mapping_of(TABLES), write("log.csv", HEAD, *ROWS)


@pytest.fixture
def older(source: tuple[Mapping, Path], tmp_path: Path) -> Path:
    write_older(tmp_path / "older", read_source(source[0], [source[1]]))
    return tmp_path / "older"


def test_it_is_read_as_the_same_lake_of_today(older: Path, source: tuple[Mapping, Path], tmp_path: Path) -> None:
    mapping, log = source
    append(tmp_path / "today", mapping, read_source(mapping, [log]))
    assert lake_digest(older) == lake_digest(tmp_path / "today")
    assert lake_version(older) == 1
    assert read_events(older)["experiment_id"].to_list() == [None, None]
    assert read_events(older).schema == EVENT_SCHEMA
    assert lake_quarantine(older)["reasons"].to_list() == [["event_time_not_a_time"]]
    assert [entry["tables"]["log.csv"]["accepted"] for entry in lake_accounts(older)] == [2]
    (tmp_path / "frozen").mkdir()
    freeze_lake(older, tmp_path / "frozen")
    assert pl.read_parquet(tmp_path / "frozen/items.parquet").select("item_id", "brand").rows() == [
        ("a", "acme"),
        ("b", None),
    ]


def test_it_is_appended_to(older: Path, source: tuple[Mapping, Path], write: Write) -> None:
    mapping, log = source
    assert append(older, mapping, read_source(mapping, [log]))["log.csv"] == TableAccount(
        3, 0, {"event_time_not_a_time": 1}, 2
    )
    # the second day gets an event of today, with the new column; the id of the first with other content is set aside
    more = write("more.csv", HEAD, "4,2024-07-02 11:00:00,eve,c,bold,blue", "1,2024-07-01 10:00:00,ann,z,,")
    account = append(older, mapping, read_source(mapping, [more]))["more.csv"]
    assert account == TableAccount(2, 1, {"event_id_with_other_content": 1}, 0)
    assert read_events(older).select("event_id", "experiment_id").rows() == [("1", None), ("2", None), ("4", "blue")]
    assert [day.day for day in touched_days(older, 1)] == [2]
    # the files of before that no version names are tidied away, those that count stay
    before = lake_digest(older)
    assert vacuum(LocalStore(older), grace=-1) > 0
    assert lake_digest(older) == before
    assert not (older / "accounts.json").exists()
    assert (older / "events/event_date=2024-07-01/part.parquet").exists()


def test_of_a_lake_with_one_file_of_items_all_are_known(older: Path, tmp_path: Path) -> None:
    (older / "item_table.parquet").unlink()
    (older / "item_content.parquet").unlink()
    (tmp_path / "frozen").mkdir()
    freeze_lake(older, tmp_path / "frozen")
    assert pl.read_parquet(tmp_path / "frozen/items.parquet")["brand"].to_list() == ["acme", None]


def test_what_a_killed_append_had_committed_is_part_of_it(older: Path) -> None:
    # the change of an append that was whole, and of which nothing had been moved into place
    change = older / ".append.commit/events/event_date=2024-07-09"
    change.mkdir(parents=True)
    day = pl.read_parquet(older / "events/event_date=2024-07-01/part.parquet")
    late = day.with_columns(pl.lit("9").alias("event_id"), pl.col("event_time") + pl.duration(days=8))
    late.write_parquet(change / "part.parquet")
    (older / ".append.tmp").mkdir()
    assert read_events(older)["event_id"].to_list() == ["1", "2", "9"]
    assert not (older / ".append.commit").exists()
    assert not (older / ".append.tmp").exists()


def test_migration_killed_anywhere_and_run_again_is_the_same(older: Path, root: Path, tmp_path: Path) -> None:
    def run(lake: Path, stop: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CHILD, str(lake), str(stop)]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)

    shutil.copytree(older, tmp_path / "calm")
    touches = int(run(tmp_path / "calm", -1).stdout)
    for stop in (touches // 3, touches - 4):
        lake = tmp_path / f"killed-at-{stop}"
        shutil.copytree(older, lake)
        assert run(lake, stop).returncode == -signal.SIGKILL
        assert lake_digest(lake) == lake_digest(tmp_path / "calm")
        assert lake_version(lake) == 1
        assert len(lake_accounts(lake)) == 1
        assert json.loads((lake / "lake.json").read_text()) == {"identity": "user", "schema_version": 2}


@pytest.mark.parametrize("version", [3, "4"])
def test_a_newer_one_is_refused(source: tuple[Mapping, Path], tmp_path: Path, version: object) -> None:
    mapping, log = source
    lake = tmp_path / "lake"
    append(lake, mapping, read_source(mapping, [log]))
    (lake / "lake.json").write_text(json.dumps({"identity": "user", "schema_version": version}))
    before = newest(LocalStore(lake))
    for use in (lambda: append(lake, mapping, read_source(mapping, [log])), lambda: read_events(lake)):
        with pytest.raises(SourceError, match="written by a newer ShopLens"):
            use()
    assert newest(LocalStore(lake)) == before


def test_a_frozen_copy_does_not_grow(older: Path, source: tuple[Mapping, Path], tmp_path: Path) -> None:
    mapping, log = source
    (tmp_path / "frozen").mkdir()
    freeze_lake(older, tmp_path / "frozen")
    with pytest.raises(SourceError, match="is a frozen copy of a lake, which does not grow"):
        append(tmp_path / "frozen", mapping, read_source(mapping, [log]))


@pytest.mark.parametrize("damaged", ["events/event_date=2024-07-02/part.parquet", "users.parquet", "accounts.json"])
def test_a_damaged_file_of_it_is_said_and_nothing_is_migrated(older: Path, damaged: str) -> None:
    (older / damaged).write_bytes(b"torn")
    with pytest.raises(SourceError, match=r"cannot be read as parquet|must be JSON") as caught:
        lake_version(older)
    assert damaged in str(caught.value)
    assert not (older / "manifests").exists()
