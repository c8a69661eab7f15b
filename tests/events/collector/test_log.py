"""The append log: what was answered is there, whatever happened since."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.collector.log import EventLog, framed
from shoplens.errors import StageBusyError


def contents(log: EventLog, start: int = 0, max_bytes: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    while start < log.end:
        records, start = log.read(start, max_bytes)
        found += [record.content for record in records]
    return found


def test_what_is_appended_is_read_in_order_across_segments_and_openings(tmp_path: Path) -> None:
    with EventLog(tmp_path, segment_bytes=60) as log:
        for n in range(10):
            log.append([b"record %d" % n, b"twin %d" % n])
        assert log.end == 20 * 9 + sum(len(b"record %d\n" % n) + len(b"twin %d\n" % n) for n in range(10))
        identity = log.id
    assert len(list(tmp_path.glob("*.log"))) > 3
    with EventLog(tmp_path, segment_bytes=60) as log:
        expected = [text % n for n in range(10) for text in (b"record %d", b"twin %d")]
        assert log.id == identity
        for max_bytes in (1, 30, 1 << 20):
            assert contents(log, max_bytes=max_bytes) == expected
        records, place = log.read(0, 1)
        assert contents(log, records[0].position) == expected
        assert contents(log, place) == expected[1:]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_torn_end_is_cut_off_and_kept_aside(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("log")
    with EventLog(folder) as log:
        log.append([b"first", b"second"])
        end = log.end
    torn = framed(b'{"never": "answered"}')
    torn = torn[: data.draw(st.integers(1, len(torn) - 1))] + data.draw(st.binary(max_size=9))
    if torn.startswith(framed(b'{"never": "answered"}')):
        return
    with (folder / f"{0:020}.log").open("ab") as stream:
        stream.write(torn)
    with EventLog(folder) as log:
        assert (log.end, contents(log)) == (end, [b"first", b"second"])
        assert (folder / f"torn-{end}.bin").read_bytes() == torn
        log.append([b"third"])
        assert contents(log) == [b"first", b"second", b"third"]


def test_a_record_that_the_disk_changed_is_no_event(tmp_path: Path) -> None:
    with EventLog(tmp_path, segment_bytes=10) as log:
        log.append([b"first"])
        log.append([b"second"])
        path = tmp_path / f"{0:020}.log"
        path.write_bytes(path.read_bytes().replace(b"first", b"worst"))
        with pytest.raises(OSError, match="the record at 0 is not what was written"):
            log.read(0, 100)


def test_one_writer(tmp_path: Path) -> None:
    with EventLog(tmp_path), pytest.raises(StageBusyError, match="another collector writes this log"):
        EventLog(tmp_path)


def test_segments_are_dropped_only_when_passed_and_old(tmp_path: Path) -> None:
    with EventLog(tmp_path, segment_bytes=10) as log:
        ends = [log.append([b"number %d" % n]) for n in range(4)]
        assert log.drop(ends[2] - 1, older_than=2e9 * 10) == 2
        assert log.begin == ends[1]
        assert contents(log) == [b"number 2", b"number 3"]
        assert log.drop(ends[3], older_than=0.0) == 0


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the kernel refuses the write half way."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from events.collector.log import EventLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with EventLog(Path(sys.argv[1])) as log:
            end = log.append([b"kept"])
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
            try:
                log.append([b"x" * 100])
            except OSError as error:
                print("refused", log.end == end)
            log.append([b"small"])
    """
    run = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "refused True\n"
    with EventLog(tmp_path) as log:
        assert contents(log) == [b"kept", b"small"]
