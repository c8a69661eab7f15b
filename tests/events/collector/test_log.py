"""The log: what was answered is there, whatever happened since."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from events.collector.log import EventLog
from shoplens.errors import SettingsError, StageBusyError


def contents(log: EventLog, start: int = 0, max_bytes: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    while start < log.end:
        records, start = log.read(start, max_bytes)
        found += [record.content for record in records]
    return found


def test_what_is_appended_is_read_in_order_across_openings(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        assert (log.begin, log.end, log.read(0, 100)) == (0, 0, ([], 0))
        for n in range(10):
            assert log.append([b"record %d" % n, b"twin %d" % n]) == 2 * n + 2
        identity = log.id
    with EventLog(tmp_path) as log:
        expected = [text % n for n in range(10) for text in (b"record %d", b"twin %d")]
        assert (log.id, log.begin, log.end) == (identity, 0, 20)
        for max_bytes in (1, 30, 1 << 20):
            assert contents(log, max_bytes=max_bytes) == expected
        records, position = log.read(2, 1)
        expected_batch = [(3, b"record 1"), (4, b"twin 1")]
        assert ([(one.position, one.content) for one in records], position) == (expected_batch, 4)
        assert log.read(3, 1) == (records, 4), "a batch is read whole"
        assert [one.position for one in log.read(4, 1 << 20, last=8)[0]] == [5, 6, 7, 8]
        assert contents(log, 20) == []


def test_one_writer(tmp_path: Path) -> None:
    with EventLog(tmp_path), pytest.raises(StageBusyError, match="another collector writes this log"):
        EventLog(tmp_path)
    with EventLog(tmp_path) as log:
        assert log.end == 0


def test_records_are_dropped_only_when_passed_and_old(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.append([b"number %d" % n for n in range(24_998)])  # more than are dropped in one transaction
        log.append([b"number %d" % n for n in range(24_998, 49_998)])
        log.append([b"number 49998", b"number 49999"])
        log.drop(before=50_000, older_than=0.0)
        assert log.begin == 0
        log.drop(before=49_999, older_than=time.time() + 1)  # within a batch: it is kept whole
        assert (log.begin, contents(log)) == (49_998, [b"number 49998", b"number 49999"])
        log.drop(before=50_000, older_than=time.time() + 1)
        assert (log.begin, log.end) == (50_000, 50_000)
    with EventLog(tmp_path) as log:
        assert log.append([b"later"]) == 50_001, "positions are never used again"


def test_dropped_records_give_their_space_back(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        for _ in range(20):
            log.append([os.urandom(4_000).hex().encode() for _ in range(1_000)])
        log.drop(before=log.end, older_than=time.time() + 1)
        log.append([b"x"])
    assert (tmp_path / "log.sqlite").stat().st_size < 80 << 20  # of 160 MB, 64 MiB are kept to be written over


def test_a_flipped_byte_in_any_batch_is_reported(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.append([b"one"])
        log.append([b"two", b"needle", b"four"])
        log.append([b"five"])
    stored = tmp_path / "log.sqlite"
    stored.write_bytes(stored.read_bytes().replace(b"needle", b"noodle"))
    with EventLog(tmp_path) as log:
        assert log.read(0, 1)[0][0].content == b"one"
        with pytest.raises(SettingsError, match=r"records 2 to 4 must be as they were .* WHERE last = 4'"):
            log.read(0, 1 << 20)
        assert log.read(4, 1 << 20)[0][0].content == b"five"
        log._writer.execute("DELETE FROM batches WHERE last = 4")  # as the message suggests
        assert contents(log) == [b"one", b"five"]


def test_what_cannot_be_read_again_is_not_written(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        for broken in ([], [b"two\nlines"]):
            with pytest.raises(ValueError, match="must be one line"):
                log.append(broken)
        assert log.end == 0


def test_a_log_is_read_while_it_is_written(tmp_path: Path) -> None:
    import threading

    with EventLog(tmp_path) as log:
        found: list[bytes] = []

        def follow() -> None:
            position = 0
            while position < 2_000:
                log.wait(position, 5)
                records, position = log.read(position, 500)
                found.extend(record.content for record in records)

        reader = threading.Thread(target=follow)
        reader.start()
        for n in range(200):
            log.append([b"%d" % (n * 10 + k) for k in range(10)])
            if n % 20 == 19:
                log.drop(0, time.time() + 1)
        reader.join(30)
    assert found == [b"%d" % n for n in range(2_000)]


def run(code: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the kernel refuses the write half way."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from events.collector.log import EventLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with EventLog(Path(sys.argv[1])) as log:
            end = log.append([b"kept"])
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            try:
                log.append([b"x" * 100_000] * 10)
            except OSError as error:
                print("rejected", log.end == end, error.filename.endswith("log.sqlite"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            log.append([b"small"])
    """
    assert run(code, str(tmp_path)).communicate()[0] == "rejected True True\n"
    with EventLog(tmp_path) as log:
        assert contents(log) == [b"kept", b"small"]


def test_what_was_appended_survives_sigkill_and_a_batch_is_never_torn(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from events.collector.log import EventLog
        with EventLog(Path(sys.argv[1])) as log:
            n = log.end // 7
            while True:
                log.append([b"%d" % n] * 7)
                print(n, flush=True)
                n += 1
    """
    answered = -1
    for seconds in (0.0, 0.05, 0.2):
        process = run(code, str(tmp_path))
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        answered = int((first + process.communicate()[0]).split()[-1])
    with EventLog(tmp_path) as log:
        numbers = [int(content) for content in contents(log)]
    assert numbers == [n for n in range(len(numbers) // 7) for _ in range(7)]
    assert answered < len(numbers) // 7 <= answered + 2


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SettingsError, match="file: the collector's log must be a writable folder"):
        EventLog(tmp_path / "file")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/log.sqlite").write_bytes(b"not a database, " * 1_000)
    with pytest.raises(SettingsError, match=r"torn: the collector's log must be .* an intact log.sqlite \(file is not"):
        EventLog(tmp_path / "torn")
    (tmp_path / "torn/log.sqlite").unlink()
    EventLog(tmp_path / "torn").close()
