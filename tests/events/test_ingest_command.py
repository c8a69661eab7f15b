"""`shoplens ingest`, as people call it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from events.mapping import Mapping

TABLES = """\
events:
  - table: log
    columns: {event_time: ts, user_id: who}
    constants: {event_name: view_item}
"""


@pytest.fixture
def call(mapping_of: Callable[[str], Mapping], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    mapping_of(TABLES)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("shoplens")), "ingest", "--mapping", "shop.yaml", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    return run


def test_the_account_and_what_is_not_read_are_printed(
    call: Callable[..., subprocess.CompletedProcess[str]], write: Callable[..., Path]
) -> None:
    write("in/log.csv", "ts,who", "2024-07-01 10:00:00,ann", "soon,ann")
    write("in/other.csv", "a", "1")
    assert call("--lake", "lake", "in").stdout.splitlines() == [
        "not read, no table of the mapping: other.csv",
        "log.csv: 2 rows in = 1 accepted + 1 quarantined (event_time_not_a_time 1) + 0 exact duplicates",
    ]


def test_fewer_rows_than_lines_and_malformed_lines_are_printed(
    call: Callable[..., subprocess.CompletedProcess[str]], write: Callable[..., Path]
) -> None:
    write("log.csv", "ts,who,text", '2024-07-01 10:00:00,ann,"two', 'lines"', "2024-07-01,bob", "2024-07-01,cy,x")
    assert call("--lake", "lake", "log.csv").stdout.splitlines() == [
        "log.csv: 4 lines are 3 rows: quoted texts hold line ends",
        "log.csv: 3 rows in = 2 accepted + 1 quarantined (row_too_short 1) + 0 exact duplicates",
    ]


def test_a_lake_that_is_a_file_is_one_line(
    call: Callable[..., subprocess.CompletedProcess[str]], write: Callable[..., Path]
) -> None:
    write("log.csv", "ts,who", "2024-07-01 10:00:00,ann")
    done = call("--lake", "log.csv", "log.csv")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "SourceError: --lake: must be a lake, a new or an empty folder; log.csv is a file" in line


def test_a_mapping_that_reads_nothing_leaves_no_lake(
    call: Callable[..., subprocess.CompletedProcess[str]], write: Callable[..., Path], tmp_path: Path
) -> None:
    write("log.csv", "ts,who", "soon,ann", "later,bob")
    done = call("--lake", "lake", "log.csv")
    assert done.returncode == 1
    assert "at least one row must become an event; none did (event_time_not_a_time 2). Correct" in done.stderr
    assert not (tmp_path / "lake").exists()


def test_a_mapping_that_is_not_there_is_reported(
    call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").unlink()
    done = call("--lake", "lake", ".")
    assert "MappingError: shop.yaml: No such file or directory. Name a mapping file" in done.stderr


def test_a_full_disk_while_reading_is_reported_without_a_traceback(mapping_of, write, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    mapping_of("""events:
  - table: log
    columns: {event_time: t, user_id: u, item_id: i}
    constants: {event_name: view_item}
""")
    rows = [
        f"2024-01-01 10:{n % 60:02}:00,user-{n * 7919 % 100_003},item-{n * 104_729 % 99_991}" for n in range(60_000)
    ]
    log = write("log.csv", "t,u,i", *rows)
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
from shoplens.cli import main
main()
"""
    words = ["ingest", str(log), "--mapping", str(tmp_path / "shop.yaml"), "--lake", str(tmp_path / "lake")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "shoplens: disk: cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "lake").exists()
