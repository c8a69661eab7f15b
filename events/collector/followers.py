"""Followers of the log: each keeps its own position, which advances only after the records have been processed."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from events.collector.log import EventLog, Record
from shoplens.errors import ShopLensError
from shoplens.files import read_json, write_json

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_CHECK_SECONDS = 3.0  # how often a follower without records calls `rewind` and `tidy`


class Following:
    """Processes the log's records in its own thread; processing must be idempotent.

    Attributes:
        name: Name of the follower.
        position: Position up to which all records have been processed.
    """

    def __init__(
        self,
        log: EventLog,
        name: str,
        follow: Callable[[Sequence[Record]], None],
        folder: Path,
        rewind: Callable[[], bool] = lambda: False,
        tidy: Callable[[int], None] = lambda position: None,
        *,
        seconds: float = 0.0,
        min_records: int = 1,
        max_bytes: int = 4 << 20,
        same_batches: bool = False,
    ) -> None:
        """Resume where the follower stopped, or at the start of the log if no position can be read.

        Args:
            log: The log.
            name: Name of the follower, and of the file in `folder` that stores its position.
            follow: Processes records; must have processed all of them when it returns.
            folder: Folder that stores the position.
            rewind: Returns whether earlier results are lost, so that the log must be processed from the start. The
                position is on disk before `follow` is called.
            tidy: Called with the follower's position after each batch, and every few seconds while the log is quiet.
            seconds: How long records may wait for a larger batch.
            min_records: Batch size that is processed without waiting.
            max_bytes: Approximate maximum size of a batch.
            same_batches: Whether an interrupted batch is repeated with exactly the same records after a restart.
        """
        self._problem: str | None = "starting"
        self.name, self.position, self._batch_end = name, 0, 0
        self._log, self._path = log, folder / f"{name}.json"
        self._follow, self._rewind, self._tidy = follow, rewind, tidy
        self._seconds, self._min_records, self._max_bytes = seconds, min_records, max_bytes
        self._same_batches, self._ending, self._rewinding = same_batches, threading.Event(), False
        self._due = 0.0  # when records need not wait for a larger batch any longer
        with suppress(OSError, ValueError, KeyError, TypeError):  # processing is idempotent
            kept = read_json(self._path)
            if kept["log"] == log.id:
                self.position, self._batch_end = int(kept["position"]), int(kept["batch_end"])
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the follower is currently failing; None while it works."""
        dead = not self._thread.is_alive() and not self._ending.is_set()
        return "its thread has died; restart the collector" if dead else self._problem

    def close(self) -> None:
        """Stop after processing what the log holds now, or at once if the follower is failing."""
        self._ending.set()
        self._thread.join()

    def _keep(self, position: int, batch_end: int) -> None:
        write_json(self._path, {"log": self._log.id, "position": position, "batch_end": batch_end})
        self.position, self._batch_end = position, batch_end

    def _step(self, *, due: bool) -> None:
        self._rewinding = self._rewind() or self._rewinding
        if self._rewinding:
            begin = self._log.begin
            self._keep(begin, begin)  # before `follow` records that the new store is being filled
            self._rewinding = False
        if due:
            self._process()
            self._due = time.monotonic() + self._seconds
        self._tidy(self.position)

    def _process(self) -> None:
        begun = self._batch_end > self.position
        records, end = self._log.read(self.position, self._max_bytes, self._batch_end if begun else None)
        if records:
            if self._same_batches and not begun:
                self._keep(self.position, end)
            self._follow(records)
        if end != self.position:
            self._keep(end, end)

    def _run(self) -> None:
        pause, failed = _FIRST_PAUSE, False
        while not self._ending.is_set() or (not failed and self.position < self._log.end):
            try:
                # on start and after a problem, do not wait for records, so that a store is opened before it is needed
                self._step(due=self._problem is not None or self._wait())
                self._problem, pause, failed = None, _FIRST_PAUSE, False
            # Catch everything, as a panic of Polars is a BaseException: events would wait for ever if the thread died.
            # The log keeps all records meanwhile.
            except BaseException as error:  # noqa: BLE001
                if not failed:
                    expected = isinstance(error, ShopLensError | OSError)
                    _log.warning("%s: %s; trying again", self.name, error, exc_info=not expected)
                self._problem, failed = str(error) or type(error).__name__, True
                self._ending.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _wait(self) -> bool:
        """Wait until there are enough records, some have waited long enough, or the follower stops.

        Returns:
            Whether records are due; False after a few seconds without, so that the caller can look for other work.
        """
        check = time.monotonic() + _CHECK_SECONDS
        while not self._ending.is_set():
            waiting, now = self._log.end - self.position, time.monotonic()
            if waiting >= self._min_records or (waiting > 0 and now >= self._due):
                return True
            if now >= check:
                return False
            self._log.wait(self.position + self._min_records - 1, min(max(self._due - now, 0.05), 0.5))
        return True
