"""The lake under kills, at the same time, and under damage."""

import json
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
from events.ingest import read_source
from events.lake import append, freeze_lake
from events.mapping import Mapping
from shoplens.digest import file_digest
from shoplens.errors import SourceError

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
# Ends itself by SIGKILL at the N-th touch of a file of the lake; N = -1: lives, and says how many there were.
CHILD = """\
import os, signal, sys
from pathlib import Path
from events.ingest import read_source
from events.lake import append
from events.mapping import load_mapping

mapping, lake, log, stop = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
source = load_mapping(mapping)
done = read_source(source, [log])
touches = 0

def watch(event, args):
    global touches
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(lake) in str(args[0]):
        touches += 1
        if touches == stop:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
append(lake, source, done)
sys.stdout.write(str(touches))
"""


def run(root: Path, lake: Path, log: Path, stop: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(log.parent / "shop.yaml"), str(lake), str(log), str(stop)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)


def content(lake: Path) -> dict[str, str]:
    return {p.relative_to(lake).as_posix(): file_digest(p) for p in lake.rglob("*") if p.is_file() and p.stat().st_size}


def test_an_append_killed_anywhere_and_run_again_leaves_the_same_lake_and_account(
    mapping_of: Load, write: Write, tmp_path: Path, root: Path
) -> None:
    mapping_of(TABLES)
    first = write("first.csv", HEAD, *ROWS)
    # the second adds a day, adds to a day, repeats, and clashes
    second = write("second.csv", HEAD, ROWS[0], "9,2024-07-02 11:00:00,eve,c,bold", "8,2024-07-03 10:00:00,eve,a,",
                   "2,2024-07-05 10:00:00,bob,b,", "7,late,eve,a,")  # fmt: skip
    before, calm = tmp_path / "before", tmp_path / "calm"
    run(root, before, first, -1)
    shutil.copytree(before, calm)
    touches = int(run(root, calm, second, -1).stdout)
    (entry,) = [e for e in json.loads((calm / "accounts.json").read_text()) if "second.csv" in e["tables"]]
    clash_and_bad = {"event_id_with_other_content": 1, "event_time_not_a_time": 1}
    assert entry["tables"]["second.csv"] == TableAccount(5, 2, clash_and_bad, 1).as_json()
    draw = random.Random(7)  # noqa: S311  (no secret)
    # one point in every fifth of the append, drawn at random
    for fifth in range(5):
        stop = 1 + int(touches * (fifth + draw.random()) / 5)
        lake = tmp_path / f"killed-at-{stop}"
        shutil.copytree(before, lake)
        assert run(root, lake, second, stop).returncode == -signal.SIGKILL
        again = run(root, lake, second, -1)
        assert again.returncode == 0, again.stderr
        assert content(lake) == content(calm), f"killed at touch {stop} of {touches}"


def test_a_new_lake_killed_at_birth_is_made_by_the_next_run(
    mapping_of: Load, write: Write, tmp_path: Path, root: Path
) -> None:
    mapping_of(TABLES)
    log = write("log.csv", HEAD, *ROWS)
    run(root, tmp_path / "calm", log, -1)
    for stop in (2, 4):
        lake = tmp_path / f"lake-{stop}"
        assert run(root, lake, log, stop).returncode == -signal.SIGKILL
        assert run(root, lake, log, -1).returncode == 0
        assert content(lake) == content(tmp_path / "calm")


def test_ingests_at_the_same_time_lose_nothing(mapping_of: Load, write: Write, tmp_path: Path, root: Path) -> None:
    mapping_of(TABLES)
    logs = [
        write(f"log{n}.csv", HEAD, *(f"{n}-{m},2024-07-{m:02} 10:00:00,ann,a,acme" for m in range(1, 29)))
        for n in range(4)
    ]
    lake = tmp_path / "lake"
    command = [sys.executable, "-c", CHILD, str(tmp_path / "shop.yaml"), str(lake)]
    children = [subprocess.Popen([*command, str(log), "-1"], cwd=root, stdout=subprocess.DEVNULL) for log in logs]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    days = [pl.read_parquet(day) for day in (lake / "events").glob("*/part.parquet")]
    assert sum(day.height for day in days) == 4 * 28
    assert len(json.loads((lake / "accounts.json").read_text())) == 4


def ingest(lake: Path, mapping: Mapping, *logs: Path) -> dict[str, TableAccount]:
    return append(lake, mapping, read_source(mapping, list(logs)))


def test_the_same_id_on_another_day_is_found(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    ingest(lake, mapping, write("log.csv", HEAD, *ROWS))
    account = ingest(lake, mapping, write("more.csv", HEAD, "1,2024-07-09 10:00:00,ann,a,acme", ROWS[1]))
    assert account["more.csv"] == TableAccount(2, 0, {"event_id_with_other_content": 1}, 1)
    assert not (lake / "events/event_date=2024-07-09").exists()


def test_reading_again_changes_nothing_at_all(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    log = write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    before = content(lake)
    assert ingest(lake, mapping, log)["log.csv"] == TableAccount(3, 0, {"event_time_not_a_time": 1}, 2)
    assert content(lake) == before


def brands(folder: Path) -> dict[str, str | None]:
    return dict(pl.read_parquet(folder / "items.parquet").select("item_id", "brand").iter_rows())


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
    assert pl.read_parquet(lake / "items.parquet")["title"].to_list() == ["Plum", "Fig", None]


def test_what_is_left_of_killed_writes_does_not_make_a_lake_unusable(
    mapping_of: Load, write: Write, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / ".lake.json.123.tmp").write_text("{")
    ingest(lake, mapping_of(TABLES), write("log.csv", HEAD, *ROWS))
    (lake / ".accounts.json.123.tmp").write_text("[")
    (lake / "events/event_date=2024-07-01/.part.parquet.9.tmp").write_text("torn")
    ingest(lake, mapping_of(TABLES), write("log.csv", HEAD, *ROWS))
    (tmp_path / "frozen").mkdir()
    freeze_lake(lake, tmp_path / "frozen")


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("lake.json", "must be JSON"),
        ("accounts.json", "must be JSON"),
        ("events/event_date=2024-07-02/part.parquet", "cannot be read as parquet"),
        ("users.parquet", "cannot be read as parquet"),
    ],
)
def test_a_damaged_file_is_said_in_one_line(
    mapping_of: Load, write: Write, tmp_path: Path, damaged: str, said: str
) -> None:
    mapping, lake, log = mapping_of(TABLES), tmp_path / "lake", write("log.csv", HEAD, *ROWS)
    ingest(lake, mapping, log)
    (lake / damaged).write_bytes(b"torn")
    with pytest.raises(SourceError, match=said) as caught:
        ingest(lake, mapping, log)
    assert damaged in str(caught.value)
    assert "\n" not in str(caught.value)


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
