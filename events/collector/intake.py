"""The intake: batches many requests, gives each event a verdict, and answers once the events are on disk."""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, Literal

import polars as pl
from pydantic_core import to_json

from events.collector.log import EventLog
from events.collector.records import Incoming, events_of
from events.contract import EVENT_SCHEMA
from events.identity import OTHER_CONTENT, content_key
from events.transform.money import with_amounts
from shoplens.errors import CollectorBusyError, ShopLensError

_log = logging.getLogger(__name__)
Check = Callable[[pl.DataFrame], pl.Series]  # EVENT_SCHEMA, without sessions -> a list of reasons per row
Status = Literal["accepted", "duplicate", "quarantined"]
IN_FUTURE = "event_time_in_future"
_KEPT = 1_000_000  # IDs, and people with their sessions
_IDLE = timedelta(minutes=30)  # session timeout of Google Analytics, also used for files without sessions
_READ_BYTES = 8 << 20
_SKEW = timedelta(seconds=60)  # how far a sender's clock may run ahead of ours
_AHEAD_OF_DATA = timedelta(days=7)  # how far events may be ahead of frozen data
_BATCH_BYTES = 8 << 20
_WAITING_BYTES = 64 << 20  # limit of queued bytes; beyond it, senders are asked to retry
_UNREADY_SECONDS = 5.0  # how long /readyz reports a problem


@dataclass(frozen=True)
class Verdict:
    """The result for one event.

    Attributes:
        event_id: ID of the event, or None if it has none.
        status: accepted (on disk), duplicate (an event with this ID and content exists) or quarantined (on disk).
        reasons: Codes of the rules that a quarantined event breaks.
        problem: Description of the first reason.
    """

    event_id: str | None
    status: Status
    reasons: tuple[str, ...] = ()
    problem: str = ""


@dataclass
class _Session:
    name: str
    first: datetime
    last: datetime


class Intake:
    """Validates, deduplicates and logs events in batches. Not thread-safe.

    With the wall clock, events are received now. With the data's clock, the receipt time comes from the event
    (`ingested_at`, else `event_time`), so past data can be replayed as it happened; events far ahead of the data are
    quarantined.
    """

    def __init__(self, log: EventLog, check: Check, now_of_data: Callable[[], datetime] | None = None) -> None:
        """Read the known IDs and the open sessions from the log.

        Args:
            log: The log that events are written to.
            check: Validates events beyond their types; returns the reasons per row.
            now_of_data: Returns the current time of the data's clock; by default the wall clock is used.
        """
        self._log, self._check, self._now_of_data = log, check, now_of_data
        # Content hash by ID, and latest session by person; the oldest entries are evicted first.
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        check(pl.DataFrame(schema=EVENT_SCHEMA))  # warm up now rather than on the first event
        position = 0
        while position < log.end:
            records, position = log.read(position, _READ_BYTES)
            events = map(self._with_session, events_of(records))
            self._remember({event["event_id"]: content_key(event) for event in events})

    def _remember(self, ids: dict[str, int]) -> None:
        self._ids.update(ids)
        while len(self._ids) > _KEPT:
            self._ids.popitem(last=False)

    def _with_session(self, event: dict[str, Any]) -> dict[str, Any]:
        """Assign an event without a session to the person's current session or a new one; remember the latest."""
        who, moment, named = event.get("user_id") or event["anonymous_id"], event["event_time"], event.get("session_id")
        held = self._sessions.get(who)
        if held is not None and (held.name == named if named else held.first - _IDLE <= moment <= held.last + _IDLE):
            held.first, held.last = min(held.first, moment), max(held.last, moment)
            session = held
        else:
            session = _Session(named or f"{who}-{int(moment.timestamp())}", moment, moment)
        if held is None or held.last <= session.last:  # else a late event of an older session; the newer one continues
            self._sessions[who] = session
            self._sessions.move_to_end(who)
            if len(self._sessions) > _KEPT:
                self._sessions.popitem(last=False)
        event["session_id"] = session.name
        return event

    def _ingested(self, event: dict[str, Any]) -> datetime:
        """Return when an event was received (UTC); with the wall clock, never before it happened."""
        own: datetime = event.get("ingested_at", event["event_time"])
        return max(datetime.now(UTC), event["event_time"]) if self._now_of_data is None else own.astimezone(UTC)

    def take(self, incoming: Sequence[Incoming]) -> list[Verdict]:
        """Check events, write them, and return their verdicts in order once they are on disk.

        A rejected event does not reserve its ID: when corrected and resent, it counts as new.

        Raises:
            OSError: the log cannot be written; nothing was accepted, and the same events may be resent.
        """
        limit = datetime.now(UTC) + _SKEW if self._now_of_data is None else self._now_of_data() + _AHEAD_OF_DATA
        good = [{**one.event, "ingested_at": self._ingested(one.event)} for one in incoming if not one.reasons]
        frame = with_amounts(pl.from_dicts(good, schema=EVENT_SCHEMA))
        checked = zip(good, frame["amount"], self._check(frame).to_list(), strict=True)
        verdicts, contents, new = [], [], dict[str, int]()
        for one in incoming:
            if one.reasons:
                verdict = Verdict(None, "quarantined", one.reasons, one.problem)
            else:
                event, amount, reasons = next(checked)
                event |= {} if amount is None else {"amount": amount}
                verdict = self._decide(event, reasons, limit, new)
            verdicts.append(verdict)
            if verdict.status == "accepted":
                contents.append(to_json(self._with_session(event)))
            elif verdict.status == "quarantined":
                raw = one.raw or to_json(one.event).decode()
                contents.append(to_json({"quarantined": raw, "reasons": verdict.reasons}))
        if contents:
            self._log.append(contents)
        self._remember(new)  # not earlier: an event that was not written must count as new when it is resent
        return verdicts

    def _decide(self, event: dict[str, Any], reasons: list[str], limit: datetime, new: dict[str, int]) -> Verdict:
        """Return the verdict for an event, given the reasons from its check; record the ID if it is accepted."""
        event_id, content = event["event_id"], content_key(event)
        known = new.get(event_id, self._ids.get(event_id))
        latest = max("event_time", "ingested_at", key=event.__getitem__)  # either would advance the data's clock
        if event[latest] > limit:
            problem = f"{latest}: must not be after {limit.isoformat()}, the clock's limit"
            return Verdict(event_id, "quarantined", (IN_FUTURE,), problem)
        if reasons:
            return Verdict(event_id, "quarantined", tuple(reasons), f"event: breaks the rule {reasons[0]}")
        if known is None:
            new[event_id] = content
            return Verdict(event_id, "accepted")
        if known == content:
            return Verdict(event_id, "duplicate")
        problem = "event_id: must be unique; this ID is known with different content"
        return Verdict(event_id, "quarantined", (OTHER_CONTENT,), problem)


@dataclass
class _Request:
    read: Callable[[], list[Any]]
    size: int
    answer: "Future[list[Verdict]]" = field(default_factory=Future)


class Batcher:
    """Batches requests from any thread: while one batch is synchronized to disk, the next one collects."""

    def __init__(
        self,
        take: Callable[[Sequence[Incoming]], list[Verdict]],
        convert: Callable[[Sequence[Any]], list[list[Incoming]]] | None = None,
    ) -> None:
        """Start the thread that writes events.

        Args:
            take: Checks and writes events; returns one verdict per event.
            convert: Converts the records of all gathered requests to events; None if each record is already an event.
        """
        self._take, self._convert = take, convert or (lambda records: [[one] for one in records])
        self._requests: deque[_Request] = deque()
        self._waiting, self._limit, self._lock = 0, _WAITING_BYTES, threading.Lock()
        self._problem, self._ready_at = "", 0.0
        self._thread = ThreadPoolExecutor(1, "intake")

    @property
    def problem(self) -> str | None:
        """Why events could not be written in the last seconds; None if there is no problem."""
        return self._problem or None if time.monotonic() < self._ready_at else None

    def submit(self, read: Callable[[], list[Any]], size: int) -> "Future[list[Verdict]]":
        """Submit a request of `size` bytes that `read` parses; the future resolves once its events are on disk.

        Raises:
            CollectorBusyError: the queue is full.
        """
        request = _Request(read, size)
        with self._lock:
            if self._waiting and self._waiting + size > self._limit:  # alone, even a larger request is taken
                raise CollectorBusyError(
                    f"collector: {self._waiting:,} bytes are queued, and {self._limit:,} may be; send it again in "
                    f"a second"
                )
            self._waiting += size
            self._requests.append(request)
        self._thread.submit(self._answer_waiting)
        return request.answer

    def close(self) -> None:
        """Process the queued requests, then stop."""
        self._thread.shutdown()

    def _answer_waiting(self) -> None:
        """Answer up to one batch of queued requests; do nothing if an earlier call answered them all."""
        batch, size = list[_Request](), 0
        while self._requests and size < _BATCH_BYTES:
            batch.append(self._requests.popleft())
            size += batch[-1].size
        # Skip senders that have disconnected; from here on a request cannot be cancelled.
        if running := [one for one in batch if one.answer.set_running_or_notify_cancel()]:
            self._answer(running)
        with self._lock:
            self._waiting -= size

    def _answer(self, requests: Sequence[_Request]) -> None:
        """Write the events of the requests and answer each; if the batch fails, retry each request alone."""
        try:
            records = [request.read() for request in requests]
            found = iter(self._convert(list(chain.from_iterable(records))))
            events = [list(chain.from_iterable(islice(found, len(own)))) for own in records]
            verdicts = iter(self._take(list(chain.from_iterable(events))))
            answers = [list(islice(verdicts, len(own))) for own in events]
        # BaseException, because no sender may wait forever, whatever stops the intake
        except BaseException as error:  # noqa: BLE001
            if not isinstance(error, OSError) and len(requests) > 1:  # a panic of Polars is no Exception either
                for request in requests:
                    self._answer([request])
                return
            failure = self._reported(error)
            for request in requests:
                request.answer.set_exception(failure)
        else:
            if self._problem and any(events):
                _log.warning("intake: events are taken again")
                self._problem = ""
            for request, answer in zip(requests, answers, strict=True):
                request.answer.set_result(answer)

    def _reported(self, error: BaseException) -> BaseException:
        """Log a failure once per outage; return the error for the senders."""
        if isinstance(error, OSError):
            problem = f"log: cannot be written ({error.strerror or error})"
        elif isinstance(error, ShopLensError):  # such as a state of the data's clock that cannot be read
            problem = f"intake: {error}"
        elif isinstance(error, Exception):
            _log.error("intake: cannot decide about a request", exc_info=error)
            return error
        else:
            problem = f"intake: stopped by {type(error).__name__} ({error})"
        if problem != self._problem:
            _log.error("%s; nothing was accepted", problem)
        self._problem, self._ready_at = problem, time.monotonic() + _UNREADY_SECONDS
        return error if isinstance(error, OSError) else CollectorBusyError(f"{problem}; send it again later")
