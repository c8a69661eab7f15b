"""What is taken out of a lake, and how a lake is read as it was: erase, revert, dry run, versions, other tools."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError

from events.account import TableAccount
from events.contract import PROMOTION_SCHEMA, QUARANTINE_SCHEMA, STOCK_SCHEMA
from events.erase import _take_out, erase_from_lake, revert
from events.lake import (
    Snapshot,
    append_events,
    freeze_lake,
    ingest_files,
    maintenance,
)
from events.lake.maintenance import compact, maintain
from events.lake.table import Lake
from events.mapping import Mapping
from shoplens.errors import SettingsError, SourceError
from tests.lake_content import lake_digest, read_events
from tests.read_source import Ingested, append, lake_accounts, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]

TABLES = """\
events:
  - table: log
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku, price: price}
    constants: {event_name: view_item}
users: {table: people, columns: {user_id: who, birth_year: born}}
"""
HEAD = "id,ts,who,sku,price"
ROWS = [
    "1,2024-07-01 10:00:00,ann,a,1",
    "2,2024-07-01 11:00:00,bob,b,2",
    "3,2024-07-02 10:00:00,ann,c,3",
    "4,soon,ann,c,4",
    "5,soon,bob,c,5",
]
NONE = pl.DataFrame(schema=QUARANTINE_SCHEMA)


@pytest.fixture
def ingest(mapping_of: Load, write: Write, tmp_path: Path) -> Callable[..., TableAccount]:
    """Return a function that ingests lines of a log, through the mapping or a changed one."""

    def run(*rows: str, tables: str = TABLES) -> TableAccount:
        mapping, people = mapping_of(tables), write("people.csv", "who,born", "ann,1980", "bob,1990")
        source = read_source(mapping, [write("log.csv", HEAD, *rows), people])
        return append(tmp_path / "lake", mapping, source)["log.csv"]

    return run


def files_with(lake: Path, text: bytes) -> list[Path]:
    return [
        path
        for path in lake.rglob("*")
        if path.is_file() and (text in path.read_bytes() or (path.suffix == ".parquet" and text in dump(path)))
    ]


def dump(path: Path) -> bytes:
    """Return the rows of a file as text: its pages are compressed."""
    return b"" if "_delta_log" in path.parts else pl.read_parquet(path, hive_partitioning=False).write_ndjson().encode()


def test_an_erased_person_is_in_no_file_any_more(ingest: Callable[..., TableAccount], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)
    compact(Lake(lake))
    ingest("6,2024-07-03 10:00:00,ann,a,1", "7,2024-07-03 10:00:00,bob,a,1")
    assert files_with(lake, b'"ann"')
    done = erase_from_lake(lake, "ann")
    assert (done.events, done.days, done.sides, done.quarantined) == (
        3,
        ["2024-07-01", "2024-07-02", "2024-07-03"],
        {"users": 2},
        1,
    )
    assert done.found
    assert read_events(lake)["event_id"].to_list() == ["2", "7"]
    assert Snapshot(lake).side("users")["user_id"].to_list() == ["bob"]
    assert Snapshot(lake).quarantine().height == 1
    assert files_with(lake, b"ann") == []
    assert not erase_from_lake(lake, "ann").found
    assert not erase_from_lake(lake, "nobody").found
    with pytest.raises(SourceError, match="a file is gone"):
        read_events(lake, 1)


def test_an_erasure_that_was_killed_is_completed_by_the_next(
    ingest: Callable[..., TableAccount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)

    def killed(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("events.erase.vacuum", killed)
        with pytest.raises(KeyboardInterrupt):
            erase_from_lake(lake, "ann")
    assert files_with(lake, b"ann")
    done = erase_from_lake(lake, "ann")
    assert done.found
    assert done.events == 0
    assert files_with(lake, b"ann") == []


@pytest.mark.parametrize("action", ["erase", "revert"])
def test_a_change_ends_while_another_writer_appends_at_full_rate(
    ingest: Callable[..., TableAccount], tmp_path: Path, action: str
) -> None:
    lake, ended, appended = tmp_path / "lake", Event(), []
    ingest(*ROWS)
    batch = lake_accounts(lake)[0]["batch"]
    template = read_events(lake).head(1).with_columns(user_id=pl.lit("eve"))

    def write_batches() -> None:
        while not ended.is_set():
            n = len(appended)
            append_events(lake, "user", template.with_columns(event_id=pl.lit(f"live-{n}")), NONE, f"batch-{n}")
            appended.append(n)

    writer = Thread(target=write_batches)
    writer.start()
    try:
        while len(appended) < 2:
            ended.wait(0.01)
        if action == "erase":
            assert erase_from_lake(lake, "ann").events == 2
        else:
            assert revert(lake, batch) == 3
        start = len(appended)
        while len(appended) < start + 2:
            ended.wait(0.01)
    finally:
        ended.set()
        writer.join()
    left = read_events(lake)
    assert left.filter(pl.col("user_id") == "eve")["event_id"].sort().to_list() == sorted(f"live-{n}" for n in appended)
    assert left.filter(pl.col("user_id") != "eve")["event_id"].to_list() == (["2"] if action == "erase" else [])


def test_a_reverted_ingest_can_be_repeated_with_a_corrected_mapping(
    ingest: Callable[..., TableAccount], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    ingest("9,2024-07-09 10:00:00,eve,z,9")
    before = lake_digest(lake)
    first = ingest(*ROWS)
    batch = lake_accounts(lake)[-1]["batch"]
    assert revert(lake, batch) == 3
    assert lake_digest(lake) == before
    assert Snapshot(lake).touched_days(2) == [date(2024, 7, 1), date(2024, 7, 2)]
    corrected = TABLES.replace("price: price", "price: price, quantity: price")
    assert ingest(*ROWS, tables=corrected) == first
    assert read_events(lake)["quantity"].to_list() == [1, 2, 3, None]
    again = lake_accounts(lake)[-1]["batch"]
    assert revert(lake, again) == 3
    assert ingest(*ROWS) == first, "the same inputs as before the first revert"
    assert [one["batch"] for one in lake_accounts(lake)][1] not in (batch, again)


def test_a_batch_whose_duplicates_were_dropped_is_reverted_last(
    ingest: Callable[..., TableAccount], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)
    assert ingest(ROWS[0], "9,2024-07-09 10:00:00,eve,z,9").exact_duplicates == 1
    first, second = (one["batch"] for one in lake_accounts(lake))
    with pytest.raises(SourceError, match=rf"Revert these first: version 2: {second}"):
        revert(lake, first)
    with pytest.raises(SourceError, match=r"BATCH: must be a batch that the lake .* received 'none'"):
        revert(lake, "none")
    revert(lake, second)
    revert(lake, first)
    assert read_events(lake).is_empty()


def test_the_commands_revert_and_dry_run(
    mapping_of: Load, write: Write, tmp_path: Path, call: Callable[..., str]
) -> None:
    mapping_of(TABLES.partition("users:")[0])
    write("log.csv", HEAD, *ROWS)
    words = ("ingest", "--mapping", "shop.yaml", "--dry-run")
    for more in ((), ("--lake", "lake")):
        lines = call(*words, *more, "log.csv").splitlines()
        assert "log.csv: 5 rows in = 3 accepted + 2 quarantined (event_time_not_a_time 2) + 0 exact duplicates" in lines
        assert sum('"event_id":"' in line for line in lines) == 3
        assert sum('"event_time_not_a_time"' in line for line in lines) == 2
        assert lines[-1] == "dry run: nothing was written"
    assert not (tmp_path / "lake").exists()
    call("ingest", "--mapping", "shop.yaml", "--lake", "lake", "log.csv")
    before = lake_digest(tmp_path / "lake")
    assert "0 accepted + 2 quarantined (event_time_not_a_time 2) + 3 exact duplicates" in call(
        *words, "--lake", "lake", "log.csv"
    )
    assert lake_digest(tmp_path / "lake") == before
    assert "already ingested as batch" in call("ingest", "--mapping", "shop.yaml", "--lake", "lake", "log.csv")
    history = call("lake", "status", "--lake", "lake")
    (batch,) = re.findall(r"version 1: (\w{16}), .*, shop, 5 rows, 3 accepted", history)
    assert "3 events removed" in call("lake", "revert", batch, "--lake", "lake")
    assert f"revert of {batch}" in call("lake", "status", "--lake", "lake")
    with pytest.raises(SettingsError, match="BATCH: must be given"):
        call("lake", "revert", "--lake", "lake")


def test_a_version_opens_the_lake_as_it_was(ingest: Callable[..., TableAccount], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)
    digests = [lake_digest(lake)]
    ingest("6,2024-07-01 12:00:00,eve,a,1", "7,soon,eve,a,1")
    compact(Lake(lake))
    assert Snapshot(lake).late_days(1) == [date(2024, 7, 1)]
    assert read_events(lake, 1)["event_id"].to_list() == ["1", "2", "3"]
    assert Snapshot(lake, 1).quarantine().height == 2
    assert Snapshot(lake).quarantine().height == 3
    with pytest.raises(SourceError, match="has no version 99"):
        Snapshot(lake, 99)
    assert digests != [lake_digest(lake)]


def test_side_tables_keep_the_newest_known_values_and_promotions_are_read_as_of_a_moment(
    mapping_of: Load, tmp_path: Path, ingest: Callable[..., TableAccount]
) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    ingest(*ROWS)
    empty = read_events(lake).clear()

    def add(digest: str, promotions: list[dict[str, object]], stock: list[dict[str, object]]) -> None:
        append(
            lake,
            mapping,
            Ingested(
                events=empty, items=pl.DataFrame(), users=pl.DataFrame(schema={"user_id": pl.String}),
                campaigns=pl.DataFrame(schema={"campaign_id": pl.String, "user_id": pl.String}), quarantined=NONE,
                accounts={}, origin=pl.DataFrame(schema={"event_id": pl.String, "table": pl.String}), digest=digest,
                promotions=pl.DataFrame(promotions, schema=PROMOTION_SCHEMA), stock=pl.DataFrame(stock, STOCK_SCHEMA),
            ),
        )  # fmt: skip

    first, later = datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 7, 8, tzinfo=UTC)
    leaflet = {"item_id": "a", "store_id": "s", "placement": "front", "valid_from": later, "valid_to": later}
    add("one", [leaflet | {"known_at": first}], [{"item_id": "a", "as_of": first, "units": 3.0}])
    add("two", [leaflet | {"known_at": None}], [{"item_id": "a", "as_of": first, "units": 2.0},
                                                {"item_id": "a", "as_of": later, "units": None}])  # fmt: skip
    assert Snapshot(lake).side("promotions")["known_at"].to_list() == [first]
    assert Snapshot(lake).side("stock").rows() == [("a", first, 2.0), ("a", later, None)]
    (tmp_path / "frozen").mkdir()
    freeze_lake(lake, tmp_path / "frozen", datetime(2024, 7, 3, tzinfo=UTC))
    assert pl.read_parquet(tmp_path / "frozen/stock.parquet").rows() == [("a", first, 2.0)]
    assert pl.read_parquet(tmp_path / "frozen/promotions.parquet").height == 1


def test_a_failing_compaction_leaves_the_append_committed(
    ingest: Callable[..., TableAccount],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(maintenance, "_COMPACT_EVERY", 1)
    lake = tmp_path / "lake"
    ingest(*ROWS)
    (lake / "users").rename(lake / "elsewhere")
    (lake / "users").mkdir()
    (lake / "users/_delta_log").write_text("no folder")
    (lake / "stock").mkdir()
    (lake / "stock/_delta_log").mkdir()
    (lake / "stock/_delta_log/00000000000000000000.json").write_text("torn")
    mapping_free = read_events(lake).head(1).with_columns(event_id=pl.lit("live"))
    assert append_events(lake, "user", mapping_free, NONE, "batch").accepted == 1
    assert "not compacted or vacuumed at version" in caplog.text
    assert read_events(lake).height == 4


def test_a_read_only_or_full_disk_is_reported_in_one_line(
    ingest: Callable[..., TableAccount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(*ROWS)
    for code, text in ((28, "the disk is full; nothing was committed"), (30, "the place cannot be written")):
        with monkeypatch.context() as patch:

            def fail(*_: object, code: int = code) -> None:
                raise OSError(code, "No space left on device" if code == 28 else "Read-only file system")

            patch.setattr("os.fsync", fail)
            with pytest.raises(SourceError, match=text) as caught:
                ingest("6,2024-07-01 12:00:00,eve,a,1")
        assert "\n" not in str(caught.value)
    assert read_events(tmp_path / "lake").height == 3


def test_a_lake_in_the_old_format_is_rejected(ingest: Callable[..., TableAccount], tmp_path: Path) -> None:
    (tmp_path / "lake/manifests").mkdir(parents=True)
    (tmp_path / "lake/lake.json").write_text('{"identity": "user", "schema_version": 2}')
    with pytest.raises(SourceError, match=r"must be a lake, a new or an empty folder; .* holds other things"):
        ingest(*ROWS)
    with pytest.raises(SourceError, match=r"must be a lake; .* is not"):
        Snapshot(tmp_path / "lake")


def test_compaction_and_many_versions_change_nothing(ingest: Callable[..., TableAccount], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)
    ingest("6,2024-07-01 12:00:00,eve,a,1")
    before, version = lake_digest(lake), Snapshot(lake).version
    maintain(Lake(lake), 32)
    assert Snapshot(lake).version == version + 1
    assert lake_digest(lake) == before
    assert ingest("6,2024-07-01 12:00:00,eve,a,1", ROWS[0]) == TableAccount(2, 0, {}, 2)


@pytest.mark.parametrize("second", ["compact", "erase"])
def test_two_rewrites_at_the_same_time_do_not_double_rows(
    ingest: Callable[..., TableAccount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)
    ingest("6,2024-07-01 12:00:00,eve,a,1")
    commit, outrun = maintenance.commit, []

    def after_another(*words: Any) -> None:
        if not outrun:  # between the reading of the files and the commit
            outrun.append(1)
            compact(Lake(lake)) if second == "compact" else erase_from_lake(lake, "ann")
        commit(*words)

    monkeypatch.setattr(maintenance, "commit", after_another)
    with pytest.raises(CommitFailedError):
        compact(Lake(lake))
    assert read_events(lake)["event_id"].to_list() == (["1", "2", "6", "3"] if second == "compact" else ["2", "6"])


def test_files_go_in_through_the_command_as_through_append(
    mapping_of: Load, write: Write, tmp_path: Path, ingest: Callable[..., TableAccount]
) -> None:
    ingest(*ROWS)
    mapping = mapping_of(TABLES)
    ingest_files(tmp_path / "other", mapping, [tmp_path / "log.csv", tmp_path / "people.csv"], lambda _: None)
    assert lake_digest(tmp_path / "other") == lake_digest(tmp_path / "lake")


def test_an_erasure_finds_ids_in_malformed_lines_and_written_as_floats(
    mapping_of: Load, write: Write, tmp_path: Path
) -> None:
    mapping = mapping_of("""events:
  - table: log
    columns: {event_time: t, user_id: u, item_id: i}
    constants: {event_name: view_item}
""")
    rows = ("2024-01-01,7,a", "2024-01-01,7,b,too,long", "soon,7.0,c", "2024-01-01,77,d,too,long", "soon,77.0,e")
    lake = tmp_path / "lake"
    append(lake, mapping, read_source(mapping, [write("log.csv", "t,u,i", *rows)]))
    assert erase_from_lake(lake, "7").quarantined == 2
    left = Snapshot(lake).quarantine()["raw"].to_list()
    assert len(left) == 2
    assert all("77" in raw for raw in left)


def test_an_index_that_a_crash_cut_off_is_built_again(ingest: Callable[..., TableAccount], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(*ROWS)
    events = read_events(lake)
    for batch in ("first", "again"):
        assert append_events(lake, "user", events, NONE, batch).exact_duplicates == events.height == 3
        for run in (lake / "known_ids").rglob("*.ids"):
            run.write_bytes(run.read_bytes()[:8])
    assert append_events(lake, "user", events, NONE, "third").exact_duplicates == 3
    assert read_events(lake).equals(events)


def test_an_erasure_whose_files_another_one_deletes_is_tried_again(
    ingest: Callable[..., TableAccount], tmp_path: Path
) -> None:
    lake, others = tmp_path / "lake", ["ann"]
    ingest(*ROWS)

    def is_bob(users: pl.Series) -> pl.Series:  # the other erasure comes after the first of two files is read
        if others:
            erase_from_lake(lake, others.pop())
        return users == "bob"

    assert _take_out(Lake(lake), "events", "user_id", is_bob) == (1, ["2024-07-01"])
    assert read_events(lake).is_empty()
