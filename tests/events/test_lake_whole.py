"""The lake under kills, at the same time, and under damage."""

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.lake import Snapshot, freeze_lake
from events.lake.maintenance import vacuum
from events.lake.table import ACCOUNTS, EVENTS, Lake
from events.mapping import Mapping
from shoplens.errors import SourceError
from tests.lake_content import lake_digest, read_events
from tests.read_source import append, lake_accounts, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]

TABLES = """\
events:
  - table: "*"
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
    items: {brand: brand}
"""
HEAD = "id,ts,who,sku,brand"
ROWS = ["1,2024-07-01 10:00:00,ann,a,acme", "2,2024-07-02 10:00:00,bob,b,", "3,soon,bob,b,"]
# Ends itself by SIGKILL at the N-th call or return of a function of the lake or of Delta, or at the first call of the
# function of that name; "" lives, and prints how many calls and returns there were.
CHILD = """\
import os, signal, sys
from pathlib import Path
from tests.read_source import append, read_source
from events.mapping import load_mapping

mapping, lake, log, stop = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
source = load_mapping(mapping)
done = read_source(source, [log])
touches = 0

def watch(frame, event, arg):
    global touches
    name = frame.f_code.co_filename
    if event in ("call", "return") and ("events/lake/" in name or "deltalake/" in name):
        touches += 1
        if stop == str(touches) or (event == "call" and stop == frame.f_code.co_name):
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(watch)
append(lake, source, done)
sys.setprofile(None)
sys.stdout.write(str(touches))
"""


def run(root: Path, lake: Path | str, log: Path, stop: int | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(log.parent / "shop.yaml"), str(lake), str(log), str(stop)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)


def content(lake: Path | str) -> tuple[str, list[str]]:
    """Return the digest of a lake, and its accounts."""
    return lake_digest(lake), [f"{entry['mapping']} {entry['tables']}" for entry in lake_accounts(lake)]


def copied(before: str, target: str) -> str:
    """Copy the files of one place to another."""
    if before.startswith("s3://"):
        Lake(before).files.fs.copy(before, target, recursive=True)
    else:
        shutil.copytree(before, target)
    return target


# in a folder before each step and at two moments drawn at random; on S3, where a request costs more, at one of each
@pytest.mark.parametrize(
    ("place", "stops"),
    [
        ("folder", ["catch_up", "write", "append", "commit_batch", "commit", "record", "maintain", 1, 2]),
        ("s3", ["record", "commit"]),
    ],
    indirect=["place"],
)
def test_an_append_killed_anywhere_and_run_again_leaves_the_same_lake_and_account(
    mapping_of: Load, write: Write, root: Path, place: str, stops: list[str | int]
) -> None:
    mapping = mapping_of(TABLES)
    first = write("first.csv", HEAD, *ROWS)
    # the second adds a day, adds to a day, repeats, and conflicts
    second = write("second.csv", HEAD, ROWS[0], "9,2024-07-02 11:00:00,eve,c,bold", "8,2024-07-03 10:00:00,eve,a,",
                   "2,2024-07-05 10:00:00,bob,b,", "7,late,eve,a,")  # fmt: skip
    before, calm = f"{place}-before", f"{place}-calm"
    append(before, mapping, read_source(mapping, [first]))
    undisturbed = run(root, copied(before, calm), second, "")
    assert undisturbed.returncode == 0, undisturbed.stderr
    touches = int(undisturbed.stdout)
    (entry,) = [e for e in lake_accounts(calm) if "second.csv" in e["tables"]]
    clash_and_bad = {"event_id_with_other_content": 1, "event_time_not_a_time": 1}
    assert entry["tables"]["second.csv"] == TableAccount(5, 2, clash_and_bad, 1).as_json()
    draw = random.Random(7)  # noqa: S311  (no secret)
    seen = {}
    for stop in stops:
        at = stop if isinstance(stop, str) else draw.randint(1, touches)
        lake = copied(before, f"{place}-killed-at-{at}")
        assert run(root, lake, second, at).returncode == -signal.SIGKILL
        seen[at] = lake_digest(lake)
        append(lake, mapping, read_source(mapping, [second]))
        assert content(lake) == content(calm), f"killed at {at}, of {touches}"
    digests = [lake_digest(before), lake_digest(calm)]
    assert set(seen.values()) == set(digests), "readers saw the lake before the append or after it"
    assert seen["record"] == digests[1]


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_commit_counts_before_its_account_is_recorded_even_if_delta_cleans_up_its_log(
    mapping_of: Load, write: Write, root: Path, place: str
) -> None:
    mapping, log = mapping_of(TABLES), write("log.csv", HEAD, *ROWS)
    more = write("more.csv", HEAD, "4,2024-07-02 11:00:00,eve,c,bold", "5,soon,eve,c,")
    append(place, mapping, read_source(mapping, [log]))
    calm = copied(place, f"{place}-calm")
    append(calm, mapping, read_source(mapping, [more]))
    lake = copied(place, f"{place}-killed")
    assert run(root, lake, more, "record").returncode == -signal.SIGKILL
    accounts = Lake(lake).find(ACCOUNTS)
    assert accounts is not None
    assert len(accounts.to_pyarrow_table()) == 1
    assert content(lake) == content(calm), "the pending account is believed"
    events = Lake(lake).find(EVENTS)
    assert events is not None
    events.create_checkpoint()
    for entry in sorted(Path(lake, "events/_delta_log").glob("*.json"))[:-1]:
        entry.unlink()
    assert content(lake) == content(calm)
    append(lake, mapping, read_source(mapping, [more]))
    assert content(lake) == content(calm)
    assert list(Path(lake, "pending").iterdir()) == []
    append(lake, mapping, read_source(mapping, [write("last.csv", HEAD, "6,2024-07-02 12:00:00,eve,c,", ROWS[0])]))
    assert read_events(lake)["event_id"].to_list() == ["1", "2", "4", "6"]


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_what_killed_writers_left_is_vacuumed_and_what_counts_stays(
    mapping_of: Load, write: Write, root: Path, place: str
) -> None:
    mapping, log = mapping_of(TABLES), write("log.csv", HEAD, *ROWS)
    append(place, mapping, read_source(mapping, [log]))
    before = content(place)
    left = Path(place, "events/day=2024-07-01/0123-left.parquet")
    left.write_bytes(b"torn")
    assert content(place) == before
    assert vacuum(Lake(place)) == 0, "younger than a day"
    assert vacuum(Lake(place), grace_hours=0) == 1
    assert not left.exists()
    assert content(place) == before


def test_a_new_lake_killed_while_it_is_created_is_created_by_the_next_run(
    mapping_of: Load, write: Write, tmp_path: Path, root: Path
) -> None:
    mapping, log = mapping_of(TABLES), write("log.csv", HEAD, *ROWS)
    done = read_source(mapping, [log])
    append(tmp_path / "calm", mapping, done)
    for stop in ("_check_place", "catch_up", "record"):
        lake = tmp_path / f"lake-{stop}"
        assert run(root, lake, log, stop).returncode == -signal.SIGKILL
        append(lake, mapping, done)
        assert content(lake) == content(tmp_path / "calm")


@pytest.mark.parametrize(("place", "writers"), [("folder", 6), ("s3", 2)], indirect=["place"])
def test_ingests_at_the_same_time_lose_nothing(
    mapping_of: Load, write: Write, tmp_path: Path, root: Path, place: str, writers: int
) -> None:
    mapping_of(TABLES)
    logs = [
        write(f"log{n}.csv", HEAD, *(f"{n}-{m},2024-07-{m:02} 10:00:00,ann,a,acme" for m in range(1, 29)))
        for n in range(writers)
    ]
    command = [sys.executable, "-c", CHILD, str(tmp_path / "shop.yaml"), place]
    children = [
        subprocess.Popen([*command, str(log), ""], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for log in logs
    ]
    for child in children:
        said = child.communicate(timeout=120)[1].decode()
        assert child.returncode == 0, said
    assert read_events(place)["event_id"].n_unique() == read_events(place).height == writers * 28
    assert len(lake_accounts(place)) == Snapshot(place).version == writers
    assert len({entry["batch"] for entry in lake_accounts(place)}) == writers


def ingest(lake: Path, mapping: Mapping, *logs: Path) -> dict[str, TableAccount]:
    return append(lake, mapping, read_source(mapping, list(logs)))


def test_the_same_id_on_another_day_is_found(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    ingest(lake, mapping, write("log.csv", HEAD, *ROWS))
    account = ingest(lake, mapping, write("more.csv", HEAD, "1,2024-07-09 10:00:00,ann,a,acme", ROWS[1]))
    assert account["more.csv"] == TableAccount(2, 0, {"event_id_with_other_content": 1}, 1)
    assert [str(day) for day in Snapshot(lake).days()] == ["2024-07-01", "2024-07-02"]


def test_reading_again_changes_nothing_at_all(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    log = write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    before = sorted(path for path in lake.rglob("*.parquet"))
    assert ingest(lake, mapping, log)["log.csv"] == TableAccount(3, 0, {"event_time_not_a_time": 1}, 2)
    assert Snapshot(lake).version == 1
    assert sorted(path for path in lake.rglob("*.parquet")) == before


def items(lake: Path) -> pl.DataFrame:
    target = lake.with_name(f"frozen-{len(list(lake.parent.iterdir()))}")
    target.mkdir()
    freeze_lake(lake, target)
    return pl.read_parquet(target / "items.parquet")


def brands(lake: Path) -> dict[str, str | None]:
    return dict(items(lake).select("item_id", "brand").iter_rows())


def test_item_content_of_events_is_kept_where_it_was_first_seen(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    rows = ["1,2024-07-02 10:00:00,ann,a,acme", "2,2024-07-02 10:00:00,ann,b,"]
    ingest(lake, mapping, write("first.csv", HEAD, *rows))
    later = ["3,2024-07-03 10:00:00,ann,a,", "4,2024-07-04 10:00:00,ann,a,bold", "5,2024-07-05 10:00:00,ann,b,cool"]
    ingest(lake, mapping, write("later.csv", HEAD, *later))
    assert brands(lake) == {"a": "acme", "b": "cool"}
    # events of a day before, that come late, were first all the same
    ingest(lake, mapping, write("late.csv", HEAD, "6,2024-07-01 10:00:00,ann,a,dear"))
    assert brands(lake) == {"a": "dear", "b": "cool"}


def test_of_an_items_table_the_newest_known_value_wins(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    tables = TABLES.replace('"*"', "log").replace("    items: {brand: brand}\n", "")
    mapping = mapping_of(tables + "items: {table: products, columns: {item_id: sku, brand: brand, title: name}}\n")
    lake, log = tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log, write("1/products.csv", "sku,brand,name", "a,acme,Pear", "b,bold,Fig"))
    ingest(lake, mapping, log, write("2/products.csv", "sku,brand,name", "a,,Plum", "c,cool,"))
    assert brands(lake) == {"a": "acme", "b": "bold", "c": "cool"}
    assert items(lake)["title"].to_list() == ["Plum", "Fig", None]


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("events/day=2024-07-01", "a file of it is damaged"),
        ("accounts", "a file of it is damaged"),
        ("quarantine", "a file of it is damaged"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(
    mapping_of: Load, write: Write, tmp_path: Path, damaged: str, message: str
) -> None:
    mapping, lake, log = mapping_of(TABLES), tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    next((lake / damaged).glob("*.parquet")).write_bytes(b"torn")
    with pytest.raises(SourceError, match=message) as caught:
        content(lake)
    assert "\n" not in str(caught.value)


def test_the_index_of_ids_is_rebuilt_when_it_is_gone(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake, log = mapping_of(TABLES), tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    shutil.rmtree(lake / "known_ids")
    assert ingest(lake, mapping, write("more.csv", HEAD, *ROWS))["more.csv"].exact_duplicates == 2


def test_a_file_that_was_taken_away_is_reported(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake, log = mapping_of(TABLES), tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    shutil.rmtree(lake / "events/day=2024-07-01")
    with pytest.raises(SourceError, match="a file is gone: it was vacuumed, erased or taken away") as caught:
        read_events(lake)
    assert "\n" not in str(caught.value)


def test_a_lake_that_is_a_file_and_one_of_another_identity_are_rejected(
    mapping_of: Load, write: Write, tmp_path: Path
) -> None:
    log = write("log.csv", HEAD, *ROWS)
    mapping = mapping_of(TABLES)
    with pytest.raises(SourceError, match=r"log\.csv is a file"):
        ingest(log, mapping, log)
    ingest(tmp_path / "lake", mapping, log)
    with pytest.raises(SourceError, match="identity is 'user'; mapping shop has 'session'"):
        ingest(tmp_path / "lake", mapping.model_copy(update={"identity": "session"}), log)


def test_a_lake_in_a_folder_with_brackets_is_a_lake(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    lake = tmp_path / "lake[1]*"
    for _ in range(2):
        ingest(lake, mapping_of(TABLES), write("log.csv", HEAD, *ROWS))
    (tmp_path / "frozen").mkdir()
    freeze_lake(lake, tmp_path / "frozen")
    assert pl.read_parquet(tmp_path / "frozen/events.parquet").height == 2
