"""Followers of the log: each has its own position in it, which moves only after the effect."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from events.collector.log import EventLog, Record
from events.collector.records import record_frames
from events.lake import append_events
from shoplens.errors import ShopLensError
from shoplens.files import read_json, write_json

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0


class Follower(Protocol):
    """Something that gives records of the log their effect; the same records twice have it once."""

    name: str

    def rewind(self) -> bool:
        """Return whether earlier effects are gone, so that the log must be followed from its beginning."""

    def follow(self, records: Sequence[Record]) -> None:
        """Give records their effect, all of them, before returning."""


class Compactor:
    """The follower that adds records to the lake, each batch as a whole and once."""

    name = "compact"

    def __init__(self, lake: Path, identity: str, log_id: str) -> None:
        """Name the lake, the kind of identity of its events, and the log that they come from."""
        self._lake, self._identity, self._log_id = lake, identity, log_id

    def rewind(self) -> bool:
        """Return False: what is in the lake stays."""
        return False

    def follow(self, records: Sequence[Record]) -> None:
        """Append events and quarantined rows."""
        events, quarantined = record_frames(records)
        batch = f"collector:{self._log_id}:{records[0].position}-{records[-1].position}"
        append_events(self._lake, self._identity, events, quarantined, batch)


@dataclass(frozen=True)
class Pace:
    """How a follower goes.

    Attributes:
        seconds: How long records may wait for more to come.
        min_records: How many need not wait.
        max_bytes: About how many are taken at once.
        same_batches: Whether a batch that was begun is repeated with the same records after a kill.
    """

    seconds: float = 0.0
    min_records: int = 1
    max_bytes: int = 4 << 20
    same_batches: bool = False


class Following:
    """Runs one follower in a thread of its own.

    Attributes:
        name: Name of the follower.
        position: Position up to which every record has had its effect.
        problem: Why the follower does not work now; None while it does.
    """

    def __init__(self, log: EventLog, follower: Follower, folder: Path, pace: Pace) -> None:
        """Begin where the follower stopped; without a readable position in this log, at the log's beginning."""
        self._log, self._follower, self._pace, self.name = log, follower, pace, follower.name
        self._path = folder / f"{self.name}.json"
        self.problem: str | None = "starting"
        self._ending = threading.Event()
        self.position = self._batch_end = 0
        with suppress(OSError, ValueError, KeyError, TypeError):  # an effect that is repeated changes nothing
            kept = read_json(self._path)
            if kept["log"] == log.id:
                self.position, self._batch_end = int(kept["position"]), int(kept["batch_end"])
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after what the log holds now."""
        self._ending.set()
        self._thread.join()
        try:
            while self.problem is None and self.position < self._log.end:
                self._step()
        except (ShopLensError, OSError) as error:
            _log.warning("%s: %s; the log keeps what is left for the next start", self.name, error)

    def _keep(self, position: int, batch_end: int) -> None:
        write_json(self._path, {"log": self._log.id, "position": position, "batch_end": batch_end})
        self.position, self._batch_end = position, batch_end

    def _step(self) -> None:
        if self._follower.rewind():
            self.position, self._batch_end = self._log.begin, 0
        begun = self._batch_end > self.position
        records, end = self._log.read(self.position, self._pace.max_bytes, self._batch_end if begun else None)
        if records:
            if self._pace.same_batches and not begun:
                self._keep(self.position, end)
            self._follower.follow(records)
        if end != self.position:
            self._keep(end, end)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            try:
                # at first, and after a problem, without waiting for records: a store is opened before it is needed
                if self.problem is not None or self._wait():
                    self._step()
                self.problem, pause = None, _FIRST_PAUSE
            # Any exception, because a thread that ended silently would never be missed; the log keeps everything.
            except Exception as error:  # noqa: BLE001
                expected = isinstance(error, ShopLensError | OSError)
                if self.problem in (None, "starting"):
                    _log.warning("%s: %s; trying again", self.name, error, exc_info=not expected)
                self.problem = str(error) or type(error).__name__
                self._ending.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _wait(self) -> bool:
        """Wait for enough records, or for the time; return whether there is something to do."""
        until = time.monotonic() + self._pace.seconds
        while not self._ending.is_set():
            waiting = self._log.end - self.position
            left = until - time.monotonic()
            if waiting >= self._pace.min_records or (waiting > 0 and left <= 0):
                return True
            self._log.wait(self.position + self._pace.min_records - 1, min(max(left, 0.05), 0.5))
        return False
