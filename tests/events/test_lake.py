"""What a lake does, in a folder and on S3."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event, Thread

import polars as pl
import pytest

from events.account import TableAccount
from events.lake import (
    Snapshot,
    append_events,
    freeze_lake,
)
from events.lake.table import Lake, created
from events.mapping import Mapping
from shoplens.errors import SourceError
from tests.lake_content import lake_digest, read_events
from tests.read_source import append, lake_accounts, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]
Ingest = Callable[..., TableAccount]

TABLES = """\
ingest_delay_seconds: 3600
events:
  - table: "*"
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
"""
ROWS = ["1,2024-07-01 10:00:00,ann,a", "2,2024-07-01 11:00:00,bob,b", "3,2024-07-02 10:00:00,ann,c"]


@pytest.fixture
def ingest(mapping_of: Load, write: Write, place: str) -> Ingest:
    mapping = mapping_of(TABLES)

    def run(*rows: str) -> TableAccount:
        return append(place, mapping, read_source(mapping, [write("log.csv", "id,ts,who,sku", *rows)]))["log.csv"]

    return run


def days_of(place: str) -> dict[str, tuple[str, ...]]:
    """Return the files of every day."""
    days: dict[str, tuple[str, ...]] = {}
    for path in sorted(Snapshot(place).files()["path"]):
        day = path.partition("/")[0].removeprefix("day=")
        days[day] = (*days.get(day, ()), path)
    return days


def frozen(place: str, target: Path, until: datetime | None = None) -> pl.DataFrame:
    target.mkdir()
    freeze_lake(place, target, until)
    return pl.read_parquet(target / "events.parquet")


def test_events_lie_by_day_and_reading_again_changes_nothing(ingest: Ingest, place: str) -> None:
    assert ingest(*ROWS) == TableAccount(3, 3, {}, 0)
    assert list(days_of(place)) == ["2024-07-01", "2024-07-02"]
    before = lake_digest(place)
    assert ingest(*ROWS) == TableAccount(3, 0, {}, 3)
    assert Snapshot(place).version == 1
    assert lake_digest(place) == before
    assert len(lake_accounts(place)) == 1


def test_a_late_event_lands_in_its_own_day_and_marks_it(ingest: Ingest, place: str) -> None:
    ingest(*ROWS)
    before = days_of(place)
    assert ingest("9,2024-07-01 10:30:00,eve,a") == TableAccount(1, 1, {}, 0)
    assert days_of(place)["2024-07-02"] == before["2024-07-02"]
    assert read_events(place)["event_id"].to_list() == ["1", "9", "2", "3"], "in the order of time"
    assert Snapshot(place).touched_days(0) == [date(2024, 7, 1), date(2024, 7, 2)]
    assert Snapshot(place).touched_days(1) == Snapshot(place).late_days(1) == [date(2024, 7, 1)]
    # a day after all others and one between them
    ingest("10,2024-07-09 10:00:00,eve,a", "11,2024-07-02 23:00:00,eve,a", "12,2024-06-01 00:00:00,eve,a")
    assert Snapshot(place).touched_days(2) == [date(2024, 6, 1), date(2024, 7, 2), date(2024, 7, 9)]
    # the newest day was the 2nd of July: what is of it is not late
    assert Snapshot(place).late_days(2) == [date(2024, 6, 1)]
    assert Snapshot(place).touched_days(3) == []
    assert sorted(entry["late_days"] for entry in lake_accounts(place)) == [[], ["2024-06-01"], ["2024-07-01"]]


def test_an_id_that_the_lake_holds_with_another_content_is_quarantined(ingest: Ingest, place: str) -> None:
    ingest(*ROWS)
    # the same id: other item; nothing new; on another day
    account = ingest(ROWS[0].replace(",a", ",z"), ROWS[1], ROWS[2].replace("07-02", "07-09"))
    assert account == TableAccount(3, 0, {"event_id_with_other_content": 2}, 1)
    assert any("z" in raw for raw in Snapshot(place).quarantine()["raw"])
    assert list(days_of(place)) == ["2024-07-01", "2024-07-02"]
    ingest(ROWS[0].replace(",a", ",z"))
    assert Snapshot(place).quarantine().height == 2, "quarantined once"


def test_a_frozen_lake_is_the_events_in_order_as_they_were_known(ingest: Ingest, place: str, tmp_path: Path) -> None:
    ingest(*ROWS[::-1])
    assert frozen(place, tmp_path / "all")["event_id"].to_list() == ["1", "2", "3"]
    # every event is booked an hour after it happened: at 11:30 the one of 11:00 is not known yet
    known = frozen(place, tmp_path / "known", datetime(2024, 7, 1, 11, 30, tzinfo=UTC))
    assert known["event_id"].to_list() == ["1"]
    (tmp_path / "again").mkdir()
    freeze_lake(place, tmp_path / "again")
    for path in (tmp_path / "all").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_digest_is_of_what_is_held_and_not_of_how_it_came(
    mapping_of: Load, write: Write, tmp_path: Path, ingest: Ingest, place: str
) -> None:
    ingest(*ROWS, "4,soon,ann,a")
    mapping, other = mapping_of(TABLES), str(tmp_path / "other")
    for row in (ROWS[2], ROWS[0], ROWS[0], ROWS[1]):
        append(other, mapping, read_source(mapping, [write("log.csv", "id,ts,who,sku", row)]))
    assert lake_digest(other) != lake_digest(place)
    append(other, mapping, read_source(mapping, [write("log.csv", "id,ts,who,sku", *ROWS, "4,soon,ann,a")]))
    assert lake_digest(other) == lake_digest(place)


@pytest.mark.parametrize(("leave_out", "same"), [([], False), (["user_id", "session_id"], True)])
def test_columns_that_do_not_count_can_be_left_out_of_the_digest(
    mapping_of: Load, write: Write, tmp_path: Path, leave_out: list[str], same: bool
) -> None:
    digests = []
    for who in ("ann", "eve"):
        source = write("log.csv", "id,ts,who,sku", ROWS[0].replace("ann", who))
        append(tmp_path / who, mapping_of(TABLES), read_source(mapping_of(TABLES), [source]))
        digests.append(lake_digest(tmp_path / who, leave_out))
    assert (digests[0] == digests[1]) is same


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_many_appends_to_a_day_are_few_files(ingest: Ingest, place: str) -> None:
    for n in range(33):
        ingest(f"{n},2024-07-01 10:00:{n:02},ann,a", f"bad-{n},soon,ann,a")
    # versions 1 to 32 were merged, the compaction is a version of its own
    assert [len(files) for files in days_of(place).values()] == [2]
    assert Snapshot(place).version == 34
    lake = Lake(place)
    for name in ("quarantine", "accounts"):
        table = lake.find(name)
        assert table is not None
        assert len(table.file_uris()) == 2
    assert len(list((lake.folder / "known_ids").rglob("*.ids"))) <= 3
    assert read_events(place)["event_id"].to_list() == [str(n) for n in range(33)]
    assert Snapshot(place).quarantine().height == len(lake_accounts(place)) == 33
    assert ingest("3,2024-07-01 10:00:03,ann,a", "19,2024-07-01 10:00:19,ann,a") == TableAccount(2, 0, {}, 2)


def test_a_reader_beside_a_writer_sees_whole_appends(ingest: Ingest, place: str) -> None:
    ingest("0a,2024-07-01 10:00:00,ann,a", "0b,2024-07-02 10:00:00,ann,a")
    ended, seen = Event(), []

    def read() -> None:
        while not ended.is_set():
            seen.append(sorted(read_events(place)["event_id"].to_list()))

    reader = Thread(target=read)
    reader.start()
    try:
        for n in range(1, 6):
            ingest(f"{n}a,2024-07-01 10:00:00,ann,a", f"{n}b,2024-07-02 10:00:00,ann,a")
    finally:
        ended.set()
        reader.join()
    whole = [sorted(f"{n}{half}" for n in range(upto) for half in "ab") for upto in range(1, 7)]
    assert seen
    assert all(one in whole for one in seen)


def test_writers_at_the_same_time_lose_nothing_and_know_each_other(ingest: Ingest, place: str) -> None:
    ingest(*ROWS)
    events = read_events(place)
    aside = pl.DataFrame(schema={"table": pl.String, "row": pl.Int64, "reasons": pl.List(pl.String), "raw": pl.String})
    accounts: dict[int, list[TableAccount]] = {0: [], 1: []}

    def write_batches(writer: int) -> None:
        for n in range(3):
            # one event of its own, and one that both bring
            ids = [f"{writer}-{n}", f"both-{n}"]
            batch = events.head(2).with_columns(pl.Series("event_id", ids))
            accounts[writer].append(append_events(place, "user", batch, aside, f"batch-{writer}-{n}"))

    threads = [Thread(target=write_batches, args=(writer,)) for writer in accounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 3 rows, and of 12 given 6 alone and 3 together
    assert read_events(place).height == read_events(place)["event_id"].n_unique() == 3 + 6 + 3
    assert Snapshot(place).version == 1 + 6
    both = [account for those in accounts.values() for account in those]
    assert sum(account.accepted for account in both) == 9
    assert sum(account.exact_duplicates for account in both) == 3
    again = append_events(place, "user", events, aside, "batch-0-0")
    assert again == accounts[0][0]
    assert Snapshot(place).version == 7


def test_a_lake_created_by_many_at_once_is_one(mapping_of: Load, place: str) -> None:
    mapping = mapping_of(TABLES)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: created(place, mapping.identity, "a test"), range(4)))) == 4
    assert Snapshot(place).version == 0
    assert Lake(place).names() == ["events"]


def test_a_folder_of_other_things_is_no_lake(ingest: Ingest, place: str) -> None:
    Lake(place).write_bytes("letter.txt", b"dear")
    with pytest.raises(SourceError, match="holds other things"):
        ingest(*ROWS)


def test_what_is_no_lake_is_reported(place: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"must be a lake; .* is not"):
        freeze_lake(place, tmp_path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/lake", "needs a store with writes that fail where a file exists"),
        ("s3://", "must name a bucket and a prefix"),
        ("s3://no-such-bucket-anywhere/lake", "cannot be reached|cannot be made|no such"),
    ],
)
def test_a_place_that_cannot_hold_a_lake_is_reported(
    url: str, said: str, mapping_of: Load, write: Write, bucket: str
) -> None:
    mapping = mapping_of(TABLES)
    with pytest.raises(SourceError, match=said) as caught:
        append(url, mapping, read_source(mapping, [write("log.csv", "id,ts,who,sku", *ROWS)]))
    assert "\n" not in str(caught.value)


def test_a_file_url_is_a_place(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping = mapping_of(TABLES)
    append(f"file://{tmp_path}/lake", mapping, read_source(mapping, [write("log.csv", "id,ts,who,sku", *ROWS)]))
    assert read_events(tmp_path / "lake").height == 3
