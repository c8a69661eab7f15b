"""Many requests, one write: while the disk synchronizes one batch, the next one gathers."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from events.collector.intake import Verdict
from events.collector.records import Incoming
from shoplens.errors import CollectorBusyError

_log = logging.getLogger(__name__)
Take = Callable[[Sequence[Incoming]], list[Verdict]]
Convert = Callable[[Sequence[Any]], list[list[Incoming]]]  # records -> the events of each
_BATCH_RECORDS = 20_000
_WAITING_BYTES = 64 << 20  # what may wait in memory; beyond it senders are asked to come again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds until a stopped intake starts again


@dataclass
class _Request:
    read: Callable[[], list[Any]]
    size: int
    answer: "Future[list[Verdict]]" = field(default_factory=Future)
    records: list[Any] = field(default_factory=list)


class Batcher:
    """Gathers requests from any thread and gives their events to the intake, in a thread of its own.

    Attributes:
        problem: Why the intake does not run; None while it does.
    """

    def __init__(self, take: Take, convert: Convert | None = None) -> None:
        """Start the thread.

        Args:
            take: Decides about events and writes them.
            convert: Makes events of records, those of all requests at once; None: every record is an event.
        """
        self.problem: str | None = None
        self._take, self._convert = take, convert or (lambda records: [[one] for one in records])
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting, self._limit, self._unwritable = 0, _WAITING_BYTES, False
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def submit(self, read: Callable[[], list[Any]], size: int) -> "Future[list[Verdict]]":
        """Hand in a request of `size` bytes, which `read` parses; the answer comes when its events are on disk.

        Raises:
            CollectorBusyError: too much is waiting, or the collector is closing.
        """
        request = _Request(read, size)
        with self._lock:
            if self._closing.is_set() or self._waiting + size > self._limit:
                raise CollectorBusyError(
                    f"collector: {self._waiting:,} bytes wait to be written, and {self._limit:,} may; send it again in "
                    f"a second"
                )
            self._waiting += size
            self._queue.put(request)
        return request.answer

    def close(self) -> None:
        """Take what waits, then end."""
        with self._lock:
            self._closing.set()
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        """Take batches until the end; whatever stops that is reported, and it starts again after a pause."""
        pause, more = _FIRST_PAUSE, True
        while more:
            requests: list[_Request] = []
            try:
                more = self._gather(requests)
                self._answer([one for one in requests if not one.answer.done()])
                pause = _FIRST_PAUSE
            # BaseException, because a thread that ended silently would leave every later request without an answer
            except BaseException as error:  # noqa: BLE001
                self.problem = f"intake: stopped by {type(error).__name__} ({error}); it starts again in {pause:g} s"
                _log.error("%s", self.problem, exc_info=True)
                for request in (one for one in requests if not one.answer.done()):
                    request.answer.set_exception(CollectorBusyError(f"{self.problem}; send it again later"))
            with self._lock:
                self._waiting -= sum(request.size for request in requests)
            if self.problem is not None:
                self._closing.wait(pause)
                pause, self.problem = min(pause * 2, _LONGEST_PAUSE), None

    def _gather(self, requests: list[_Request]) -> bool:
        """Add the requests that wait, each parsed; return False at the end."""
        count = 0
        while count < _BATCH_RECORDS:
            try:
                request = self._queue.get(block=not requests)
            except queue.Empty:
                break
            if request is None:
                return False
            requests.append(request)
            if not request.answer.set_running_or_notify_cancel():
                continue  # the sender has gone; from here on nobody can cancel it
            try:
                request.records = request.read()
            except Exception as error:  # noqa: BLE001 - whatever it is, it fails this request and no other
                request.answer.set_exception(error)
            count += len(request.records)
        return True

    def _answer(self, requests: Sequence[_Request]) -> None:
        """Write the events of requests and answer each; what fails together is tried alone."""
        try:
            events = self._convert([record for request in requests for record in request.records])
            verdicts = iter(self._take([event for one in events for event in one]))
        except OSError as error:
            if not self._unwritable:  # once per outage, not once per request
                _log.error("log: cannot be written (%s); nothing is taken until it can", error.strerror or error)
            self._unwritable = True
            for request in requests:
                request.answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: senders must hear that nothing was taken
            if len(requests) > 1:
                for request in requests:
                    self._answer([request])
            else:
                _log.exception("intake: cannot decide about a request")
                requests[0].answer.set_exception(error)
        else:
            if self._unwritable and events:
                _log.warning("log: can be written again")
                self._unwritable = False
            counts = iter(map(len, events))
            for request in requests:
                own = sum(next(counts) for _ in request.records)
                request.answer.set_result(list(islice(verdicts, own)))
