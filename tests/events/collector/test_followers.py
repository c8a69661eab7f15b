"""Followers: what they do when processing fails, and while the log is quiet."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from events.collector import followers
from events.collector.followers import Following
from events.collector.log import EventLog, Record


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_panic_is_reported_and_processing_is_tried_again(tmp_path: Path) -> None:
    panics = iter([pl.exceptions.PanicException("poison")] * 2)

    def follow(records: Sequence[Record]) -> None:
        for panic in panics:
            raise panic

    with EventLog(tmp_path / "log") as log:
        log.append([b"one"])
        following = Following(log, "panicking", follow, tmp_path)
        until(lambda: following.problem == "poison")
        until(lambda: following.position == 1)
        until(lambda: following.problem is None)
        following.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_a_problem(tmp_path: Path) -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def follow(records: Sequence[Record]) -> None:
        raise UnprintableError

    with EventLog(tmp_path / "log") as log:
        following = Following(log, "dying", follow, tmp_path)
        until(lambda: following.problem is None)
        log.append([b"one"])
        until(lambda: following.problem == "its thread has died; restart the collector")
        following.close()


def test_a_quiet_log_does_not_keep_a_follower_from_looking_for_other_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "_CHECK_SECONDS", 0.1)
    lost, seen, tidied = False, list[int](), list[int]()

    def rewind() -> bool:
        nonlocal lost
        rewinding, lost = lost, False
        return rewinding

    def follow(records: Sequence[Record]) -> None:
        seen.extend(record.position for record in records)

    with EventLog(tmp_path / "log") as log:
        log.append([b"one", b"two"])
        following = Following(log, "quiet", follow, tmp_path, rewind, tidied.append)
        until(lambda: seen == [1, 2] and len(tidied) > 2)
        lost = True
        until(lambda: seen == [1, 2, 1, 2])
        following.close()
    assert tidied[-1] == 2


def test_checking_does_not_end_the_wait_for_a_larger_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "_CHECK_SECONDS", 0.05)
    seen, tidied = list[int](), list[int]()
    with EventLog(tmp_path / "log") as log:
        following = Following(
            log,
            "patient",
            lambda records: seen.append(len(records)),
            tmp_path,
            tidy=tidied.append,
            seconds=60,
            min_records=3,
        )
        until(lambda: following.problem is None)
        log.append([b"one", b"two"])
        checks = len(tidied)
        until(lambda: len(tidied) > checks + 3)
        assert seen == []
        log.append([b"three"])
        until(lambda: seen == [3])
        following.close()
