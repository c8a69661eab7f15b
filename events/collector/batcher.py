"""Many requests, one write: while the disk syncs, the next batch gathers."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from events.collector.incoming import Incoming
from events.collector.intake import Verdict
from shoplens.errors import CollectorBusyError

Take = Callable[[Sequence[Incoming]], list[Verdict]]
_BATCH_EVENTS = 20_000
_WAITING_BYTES = 64 << 20  # what may wait in memory; beyond it senders are asked to come again


@dataclass
class _Request:
    read: Callable[[], list[Incoming]]
    size: int
    answer: "Future[list[Verdict]]" = field(default_factory=Future)


class Batcher:
    """Gathers bodies from any thread and gives them to the intake in one."""

    def __init__(self, take: Take, waiting_bytes: int = _WAITING_BYTES) -> None:
        """Start the thread that calls `take`."""
        self._take, self._limit = take, waiting_bytes
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def submit(self, read: Callable[[], list[Incoming]], size: int) -> "Future[list[Verdict]]":
        """Hand in what is read into events, `size` bytes of it; the answer comes when they are on disk.

        Raises:
            CollectorBusyError: too much is waiting, or the collector is ending.
        """
        with self._lock:
            if self._closed or self._waiting + size > self._limit:
                raise CollectorBusyError(
                    f"collector: {self._waiting:,} bytes wait to be written, and {self._limit:,} may; send it again in "
                    f"a second"
                )
            self._waiting += size
            request = _Request(read, size)
            self._queue.put(request)
        return request.answer

    def close(self) -> None:
        """Take what waits, then end."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _gather(self) -> tuple[list[_Request], list[list[Incoming]], bool]:
        """Return the requests that wait, each read, and whether the end was among them."""
        requests: list[_Request] = []
        parts: list[list[Incoming]] = []
        events = 0
        while events < _BATCH_EVENTS:
            try:
                request = self._queue.get(block=not requests)
            except queue.Empty:
                break
            if request is None:
                return requests, parts, True
            requests.append(request)
            parts.append(request.read())
            events += len(parts[-1])
        return requests, parts, False

    def _run(self) -> None:
        ended = False
        while not ended:
            requests, parts, ended = self._gather()
            try:
                verdicts = self._take([one for part in parts for one in part])
            except Exception as error:  # noqa: BLE001 - whatever it is, the senders must hear that nothing was taken
                for request in requests:
                    request.answer.set_exception(error)
            else:
                place = 0
                for request, part in zip(requests, parts, strict=True):
                    request.answer.set_result(verdicts[place : place + len(part)])
                    place += len(part)
            with self._lock:
                self._waiting -= sum(request.size for request in requests)
