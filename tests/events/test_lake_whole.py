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
from events.lake import append, freeze_lake, lake_accounts, lake_digest, lake_version, read_events
from events.lake.manifest import newest, path_of
from events.lake.store import LocalStore, open_store
from events.lake.vacuum import vacuum
from events.mapping import Mapping
from shoplens.errors import SourceError
from tests.read_source import read_source

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
# Ends itself by SIGKILL at the N-th touch of a file of the lake or word to S3, or at the first touch of a file of that
# name; N = -1: lives, and says how many touches there were.
CHILD = """\
import os, signal, sys
from pathlib import Path
from tests.read_source import read_source
from events.lake import append
from events.mapping import load_mapping

mapping, lake, log, stop = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
source = load_mapping(mapping)
done = read_source(source, [log])
touches = 0

def watch(event, args):
    global touches
    files = event in ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir") and lake in str(args[0])
    if files or event == "socket.connect":
        touches += 1
        if str(touches) == stop or (files and stop[0] == "/" and stop in str(args[0])):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
append(lake, source, done)
sys.stdout.write(str(touches))
"""


def run(root: Path, lake: Path | str, log: Path, stop: int | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(log.parent / "shop.yaml"), str(lake), str(log), str(stop)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)


def content(lake: Path | str) -> tuple[str, list[str]]:
    """Return the digest of a lake, and its accounts."""
    return lake_digest(lake), sorted(str(entry) for entry in lake_accounts(lake))


def copied(before: str, target: str) -> str:
    """Copy the files of one place to another."""
    source, to = open_store(before), open_store(target)
    for path in source.files():
        to.write(path, source.read(path))
    return target


# one point in every fifth of the append, drawn at random; on S3, where a word costs more, in every half
@pytest.mark.parametrize(("place", "pieces"), [("folder", 5), ("s3", 2)], indirect=["place"])
def test_an_append_killed_anywhere_and_run_again_leaves_the_same_lake_and_account(
    mapping_of: Load, write: Write, root: Path, place: str, pieces: int
) -> None:
    mapping = mapping_of(TABLES)
    first = write("first.csv", HEAD, *ROWS)
    # the second adds a day, adds to a day, repeats, and clashes
    second = write("second.csv", HEAD, ROWS[0], "9,2024-07-02 11:00:00,eve,c,bold", "8,2024-07-03 10:00:00,eve,a,",
                   "2,2024-07-05 10:00:00,bob,b,", "7,late,eve,a,")  # fmt: skip
    before, calm = f"{place}-before", f"{place}-calm"
    append(before, mapping, read_source(mapping, [first]))
    touches = int(run(root, copied(before, calm), second, -1).stdout)
    (entry,) = [e for e in lake_accounts(calm) if "second.csv" in e["tables"]]
    clash_and_bad = {"event_id_with_other_content": 1, "event_time_not_a_time": 1}
    assert entry["tables"]["second.csv"] == TableAccount(5, 2, clash_and_bad, 1).as_json()
    draw = random.Random(7)  # noqa: S311  (no secret)
    for piece in range(pieces):
        stop = 1 + int(touches * (piece + draw.random()) / pieces)
        lake = copied(before, f"{place}-killed-at-{stop}")
        assert run(root, lake, second, stop).returncode == -signal.SIGKILL
        again = append(lake, mapping, read_source(mapping, [second]))
        assert again["second.csv"].rows_in == 5
        assert content(lake) == content(calm), f"killed at touch {stop} of {touches}"


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_an_append_killed_between_its_files_and_its_manifest_never_was(
    mapping_of: Load, write: Write, root: Path, place: str
) -> None:
    mapping, log = mapping_of(TABLES), write("log.csv", HEAD, *ROWS)
    more = write("more.csv", HEAD, "4,2024-07-02 11:00:00,eve,c,bold")
    append(place, mapping, read_source(mapping, [log]))
    before, files = content(place), set(open_store(place).files())
    calm = copied(place, f"{place}-calm")
    # the manifest is the last that goes to S3; in a folder it has a name
    stop = run(root, calm, more, -1).stdout if place.startswith("s3://") else "/manifests/.000000000002.json"
    append(calm, mapping, read_source(mapping, [more]))
    assert run(root, place, more, stop).returncode == -signal.SIGKILL
    assert lake_version(place) == 1
    left = set(open_store(place).files()) - files
    assert {path.partition("/")[0] for path in left} >= {"events", "index", "accounts"}
    assert content(place) == before
    append(place, mapping, read_source(mapping, [more]))
    assert content(place) == content(calm)
    # what was left behind goes after its time, and what counts stays
    named = newest(open_store(place)).files()
    assert vacuum(open_store(place), grace=-1) > 0
    assert set(open_store(place).files()) == named | {"lake.json", path_of(2)}
    assert content(place) == content(calm)


def test_a_new_lake_killed_at_birth_is_made_by_the_next_run(
    mapping_of: Load, write: Write, tmp_path: Path, root: Path
) -> None:
    mapping, log = mapping_of(TABLES), write("log.csv", HEAD, *ROWS)
    done = read_source(mapping, [log])
    append(tmp_path / "calm", mapping, done)
    for stop in ("/lake.json", 6):
        lake = tmp_path / f"lake-{str(stop).strip('/')}"
        assert run(root, lake, log, stop).returncode == -signal.SIGKILL
        append(lake, mapping, done)
        assert content(lake) == content(tmp_path / "calm")


@pytest.mark.parametrize(("place", "writers"), [("folder", 3), ("s3", 2)], indirect=["place"])
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
        subprocess.Popen([*command, str(log), "-1"], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for log in logs
    ]
    for child in children:
        said = child.communicate(timeout=120)[1].decode()
        assert child.returncode == 0, said
    assert read_events(place)["event_id"].n_unique() == read_events(place).height == writers * 28
    assert len(lake_accounts(place)) == lake_version(place) == writers


def ingest(lake: Path, mapping: Mapping, *logs: Path) -> dict[str, TableAccount]:
    return append(lake, mapping, read_source(mapping, list(logs)))


def test_the_same_id_on_another_day_is_found(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    ingest(lake, mapping, write("log.csv", HEAD, *ROWS))
    account = ingest(lake, mapping, write("more.csv", HEAD, "1,2024-07-09 10:00:00,ann,a,acme", ROWS[1]))
    assert account["more.csv"] == TableAccount(2, 0, {"event_id_with_other_content": 1}, 1)
    assert "2024-07-09" not in newest(open_store(lake)).days


def test_reading_again_changes_nothing_at_all(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    log = write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    before = open_store(lake).files()
    assert ingest(lake, mapping, log)["log.csv"] == TableAccount(3, 0, {"event_time_not_a_time": 1}, 2)
    assert lake_version(lake) == 1
    assert set(newest(open_store(lake)).files()) <= set(before)


def items(lake: Path) -> pl.DataFrame:
    target = lake.with_name(f"frozen-{len(list(lake.parent.iterdir()))}")
    target.mkdir()
    freeze_lake(lake, target)
    return pl.read_parquet(target / "items.parquet")


def brands(lake: Path) -> dict[str, str | None]:
    return dict(items(lake).select("item_id", "brand").iter_rows())


def test_what_rode_on_events_is_kept_where_it_was_first_seen(mapping_of: Load, write: Write, tmp_path: Path) -> None:
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


def test_what_is_left_of_killed_writes_does_not_make_a_lake_unusable(
    mapping_of: Load, write: Write, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / ".lake.json.123.tmp").write_text("{")
    ingest(lake, mapping_of(TABLES), write("log.csv", HEAD, *ROWS))
    (lake / "manifests/.000000000002.json.123.tmp").write_text("{")
    (lake / "events/event_date=2024-07-01/.part.parquet.9.tmp").write_text("torn")
    ingest(lake, mapping_of(TABLES), write("log.csv", HEAD, *ROWS))
    (tmp_path / "frozen").mkdir()
    freeze_lake(lake, tmp_path / "frozen")


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("lake.json", "must be JSON"),
        ("manifests/000000000001.json", "must be the manifest of a lake"),
        ("events", "cannot be read as parquet"),
        ("index", "cannot be read as parquet"),
        ("accounts", "cannot be read as parquet"),
        ("quarantine", "cannot be read as parquet"),
    ],
)
def test_a_damaged_file_is_said_in_one_line(
    mapping_of: Load, write: Write, tmp_path: Path, damaged: str, said: str
) -> None:
    mapping, lake, log = mapping_of(TABLES), tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    path = next(name for name in sorted(LocalStore(lake).files()) if name.startswith(damaged))
    (lake / path).write_bytes(b"torn")
    with pytest.raises(SourceError, match=said) as caught:
        ingest(lake, mapping, log)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_taken_away_is_said(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake, log = mapping_of(TABLES), tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    shutil.rmtree(lake / "events/event_date=2024-07-01")
    with pytest.raises(SourceError, match="no such file: the lake was tidied while it was read"):
        read_events(lake)


def test_a_lake_that_is_a_file_and_one_of_another_identity_are_refused(
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
