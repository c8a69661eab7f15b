"""Many requests, one write: while the disk synchronizes one batch, the next one gathers."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from events.collector.intake import Verdict
from events.collector.records import Incoming
from shoplens.errors import CollectorBusyError

_log = logging.getLogger(__name__)
Take = Callable[[Sequence[Incoming]], list[Verdict]]
Convert = Callable[[Sequence[Any]], list[list[Incoming]]]  # records -> the events of each
_BATCH_EVENTS = 20_000
_WAITING_BYTES = 64 << 20  # what may wait in memory; beyond it senders are asked to come again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds until a stopped intake starts again


@dataclass
class _Request:
    read: Callable[[], list[Any]]
    size: int
    convert: Convert | None
    answer: "Future[list[Verdict]]" = field(default_factory=Future)
    records: list[Any] = field(default_factory=list)
    events: list[Incoming] = field(default_factory=list)


class Batcher:
    """Gathers requests from any thread and gives their events to the intake, in a thread of its own.

    Attributes:
        problem: Why the intake does not run; None while it does.
    """

    def __init__(self, take: Take, waiting_bytes: int = _WAITING_BYTES) -> None:
        """Start the thread that calls `take`."""
        self.problem: str | None = None
        self._take, self._limit = take, waiting_bytes
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._unwritable = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def submit(
        self, read: Callable[[], list[Any]], size: int, convert: Convert | None = None
    ) -> "Future[list[Verdict]]":
        """Hand in a request of `size` bytes; the answer comes when its events are on disk.

        Args:
            read: Returns the events of the request, or, with `convert`, its records.
            size: What it counts of the bytes that may wait.
            convert: Makes events of the records of all requests that wait together: it takes long for few as for many.

        Raises:
            CollectorBusyError: too much is waiting, or the collector is closing.
        """
        with self._lock:
            if self._closing.is_set() or self._waiting + size > self._limit:
                raise CollectorBusyError(
                    f"collector: {self._waiting:,} bytes wait to be written, and {self._limit:,} may; send it again in "
                    f"a second"
                )
            self._waiting += size
            request = _Request(read, size, convert)
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
                self._answer(requests)
            # BaseException, because a thread that ended silently would leave every later request without an answer
            except BaseException as error:  # noqa: BLE001
                self.problem = f"intake: stopped by {type(error).__name__} ({error}); it starts again in {pause:g} s"
                _log.error("%s", self.problem, exc_info=True)
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(CollectorBusyError(f"{self.problem}; send it again later"))
            with self._lock:
                self._waiting -= sum(request.size for request in requests)
            if self.problem is None:
                pause = _FIRST_PAUSE
            else:
                self._closing.wait(pause)
                pause, self.problem = min(pause * 2, _LONGEST_PAUSE), None

    def _gather(self, requests: list[_Request]) -> bool:
        """Add the requests that wait, each read into events; return False at the end."""
        events, more = 0, True
        while events < _BATCH_EVENTS:
            try:
                request = self._queue.get(block=not requests)
            except queue.Empty:
                break
            if request is None:
                more = False
                break
            requests.append(request)
            if not request.answer.set_running_or_notify_cancel():
                continue  # the sender has gone; from here on nobody can cancel it
            try:
                request.records = request.read()
            except Exception as error:  # noqa: BLE001 - whatever it is, it fails this request and no other
                request.answer.set_exception(error)
            if request.convert is None:
                request.events = request.records
            events += len(request.records)
        self._convert([one for one in requests if one.convert is not None and not one.answer.done()])
        return more

    def _convert(self, requests: Sequence[_Request]) -> None:
        """Make events of the records of requests; what fails together is tried alone."""
        if not requests or (convert := requests[0].convert) is None:
            return
        try:
            converted = iter(convert([record for request in requests for record in request.records]))
            for request in requests:
                request.events = [event for _ in request.records for event in next(converted)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails this request and no other
            if len(requests) > 1:
                for request in requests:
                    self._convert([request])
            else:
                requests[0].answer.set_exception(error)

    def _answer(self, requests: Sequence[_Request]) -> None:
        """Write the events of requests and answer each; what fails together is tried alone."""
        open_ones = [request for request in requests if not request.answer.done()]
        try:
            verdicts = self._take([event for request in open_ones for event in request.events])
        except OSError as error:
            if not self._unwritable:  # once per outage, not once per request
                _log.error("log: cannot be written (%s); nothing is taken until it can", error.strerror or error)
            self._unwritable = True
            for request in open_ones:
                request.answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: senders must hear that nothing was taken
            if len(open_ones) > 1:
                for request in open_ones:
                    self._answer([request])
                return
            _log.error("intake: cannot decide about a request: %r", error, exc_info=True)
            for request in open_ones:
                request.answer.set_exception(error)
        else:
            if self._unwritable and verdicts:
                _log.warning("log: can be written again")
                self._unwritable = False
            place = 0
            for request in open_ones:
                request.answer.set_result(verdicts[place : place + len(request.events)])
                place += len(request.events)
