"""Followers: what they do when processing fails, and while the log is quiet."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

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
