"""What brings the log onward: each follower has its own place in it, moved only after the effect."""

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from events.collector.log import EventLog, Record
from shoplens.errors import ShopLensError
from shoplens.files import read_json, write_json

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0


class Follower(Protocol):
    """Something that takes records of the log to where they have an effect; twice the same changes nothing."""

    name: str

    def rewind(self) -> bool:
        """Say whether what was done before is gone, so that the log must be followed from its beginning."""

    def follow(self, records: Sequence[Record]) -> None:
        """Bring records onward, all of them, before returning."""


@dataclass(frozen=True)
class Pace:
    """How a follower goes: it waits until there are `min_bytes` or `seconds` have passed, and takes `max_bytes`."""

    seconds: float = 0.0
    min_bytes: int = 1
    max_bytes: int = 4 << 20


class Following:
    """Runs one follower in a thread of its own."""

    def __init__(self, log: EventLog, follower: Follower, folder: Path, pace: Pace) -> None:
        """Start where the follower stopped; a place that cannot be read is the log's beginning."""
        self._log, self._follower, self._pace = log, follower, pace
        self._path = folder / f"{follower.name}.json"
        self.problem: str | None = "starting"
        self._ending = threading.Event()
        self._position = self._kept()
        self._thread = threading.Thread(target=self._run, name=follower.name, daemon=True)

    @property
    def name(self) -> str:
        """What the follower is called."""
        return self._follower.name

    @property
    def position(self) -> int:
        """Position up to which everything has had its effect."""
        return self._position

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self, *, finish: bool) -> None:
        """End; with `finish`, after what the log holds now."""
        self._ending.set()
        self._thread.join()
        if finish and self.problem is None:
            while self._position < self._log.end:
                self._step()

    def _kept(self) -> int:
        try:
            return int(read_json(self._path)["position"])
        except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError):
            return 0

    def _keep(self, position: int) -> None:
        write_json(self._path, {"position": position})
        self._position = position

    def _step(self) -> None:
        if self._follower.rewind():
            self._position = self._log.begin
        records, end = self._log.read(self._position, self._pace.max_bytes)
        if records:
            self._follower.follow(records)
        if end != self._position:
            self._keep(end)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            try:
                # at first, and after a problem, without waiting for records: a store is opened before it is needed
                if self.problem is not None or self._wait():
                    self._step()
                self.problem, pause = None, _FIRST_PAUSE
            except (ShopLensError, OSError) as error:  # a store is away: the log keeps everything meanwhile
                if self.problem in (None, "starting"):
                    _log.warning("%s: %s; trying again", self.name, error)
                self.problem = str(error)
                self._ending.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _wait(self) -> bool:
        """Wait for enough records, or for the time; say whether there is something to do."""
        until = time.monotonic() + self._pace.seconds
        while not self._ending.is_set():
            waiting = self._log.end - self._position
            left = until - time.monotonic()
            if waiting >= self._pace.min_bytes or (waiting > 0 and left <= 0):
                return True
            self._log.wait(self._position + self._pace.min_bytes - 1, min(max(left, 0.05), 0.5))
        return False
