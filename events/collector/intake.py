"""What becomes of each event that comes in, written to the log before a sender gets an answer."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars as pl
from pydantic_core import to_json

from events.collector.log import EventLog
from events.collector.records import Incoming, event_frame, events_of, quarantined
from events.identity import OTHER_CONTENT, content_key
from events.transform.money import with_amounts

Check = Callable[[pl.DataFrame], pl.Series]  # EVENT_SCHEMA, without sessions -> a list of reasons per row
Status = Literal["accepted", "duplicate", "quarantined"]
IN_FUTURE = "event_time_in_future"
_KEPT = 1_000_000  # IDs, and people with their sessions
_IDLE = timedelta(minutes=30)  # Google Analytics' session time-out, and that of files without sessions
_READ_BYTES = 8 << 20
_SKEW = timedelta(seconds=60)  # how far a sender's clock may be ahead of ours
_AHEAD_OF_DATA = timedelta(days=7)  # how far events may run ahead of frozen data


@dataclass(frozen=True)
class Verdict:
    """What became of one event.

    Attributes:
        event_id: Its ID; None where it has none.
        status: accepted (on disk), duplicate (its ID is known with this content) or quarantined (on disk).
        reasons: Why it is quarantined.
        problem: The first reason in words.
    """

    event_id: str | None
    status: Status
    reasons: tuple[str, ...] = ()
    problem: str = ""


class Clock:
    """When an event was received.

    By the wall clock that is now. By the data's clock it is what the event itself contains (`ingested_at`, else
    `event_time`): data of the past are replayed as they happened, and what lies far beyond them is quarantined.
    """

    def __init__(self, now_of_data: Callable[[], datetime] | None = None) -> None:
        """Use the wall clock, or a function that returns the data's own now."""
        self._data = now_of_data

    def limit(self) -> datetime:
        """Return the latest time that an event may have happened at."""
        return datetime.now(UTC) + _SKEW if self._data is None else self._data() + _AHEAD_OF_DATA

    def ingested(self, event: dict[str, Any]) -> datetime:
        """Return when an event was received, in UTC, never before it happened."""
        if self._data is None:
            moment: datetime = max(datetime.now(UTC), event["event_time"])
        else:
            moment = event.get("ingested_at", event["event_time"])
        return moment.astimezone(UTC)


@dataclass
class _Session:
    name: str
    first: datetime
    last: datetime


class Intake:
    """Decides about events in batches. For one thread."""

    def __init__(self, log: EventLog, check: Check, clock: Clock) -> None:
        """Read from the log which IDs are known and which sessions go on.

        Args:
            log: Where events are written.
            check: The rules for an event beyond its types; returns the reasons of each row that breaks one.
            clock: When events are received.
        """
        self._log, self._check, self._clock = log, check, clock
        # Of IDs the hash of the content, of people the latest session; the oldest are forgotten first.
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        check(event_frame([]))  # load what it needs now, not when the first event waits
        position = 0
        while position < log.end:
            records, position = log.read(position, _READ_BYTES)
            events = [self._with_session(event) for event in events_of(records)]
            self._remember({event["event_id"]: content_key(event) for event in events})

    def _remember(self, ids: dict[str, int]) -> None:
        self._ids.update(ids)
        while len(self._ids) > _KEPT:
            self._ids.popitem(last=False)

    def _with_session(self, event: dict[str, Any]) -> dict[str, Any]:
        """Give an event without a session the one around it or a new one; remember the latest of each person."""
        who, moment, named = event.get("user_id") or event["anonymous_id"], event["event_time"], event.get("session_id")
        held = self._sessions.get(who)
        if held is not None and (held.name == named if named else held.first - _IDLE <= moment <= held.last + _IDLE):
            held.first, held.last = min(held.first, moment), max(held.last, moment)
            session = held
        else:
            session = _Session(named or f"{who}-{int(moment.timestamp())}", moment, moment)
        if held is None or held.last <= session.last:  # else an old one that came late: the newer one goes on
            self._sessions[who] = session
            self._sessions.move_to_end(who)
            if len(self._sessions) > _KEPT:
                self._sessions.popitem(last=False)
        event["session_id"] = session.name
        return event

    def take(self, incoming: Sequence[Incoming]) -> list[Verdict]:
        """Decide about events, write them, and only then return what became of each, in order.

        Raises:
            OSError: the log cannot be written; nothing was taken, and the same events may be sent again.
        """
        verdicts = [Verdict(None, "quarantined", one.reasons, one.problem) for one in incoming]
        limit, events = self._clock.limit(), {}
        for place, one in enumerate(incoming):
            if not one.reasons and one.event["event_time"] > limit:
                problem = f"event_time: must not be after {limit.isoformat()}, the clock's limit"
                verdicts[place] = Verdict(one.event["event_id"], "quarantined", (IN_FUTURE,), problem)
            elif not one.reasons:
                events[place] = {**one.event, "ingested_at": self._clock.ingested(one.event)}
        new = self._decide(events, verdicts)
        contents = []
        for place, (one, verdict) in enumerate(zip(incoming, verdicts, strict=True)):
            if verdict.status == "accepted":
                contents.append(to_json(self._with_session(events[place])))
            elif verdict.status == "quarantined":
                contents.append(quarantined(one.raw or to_json(one.event).decode(), verdict.reasons))
        if contents:
            self._log.append(contents)
        self._remember(new)  # not before: what was not written is new when it is sent again
        return verdicts

    def _decide(self, events: dict[int, dict[str, Any]], verdicts: list[Verdict]) -> dict[str, int]:
        """Set the verdict of each event by its place and fill its amount; return the new IDs.

        A rejected event does not occupy its ID: corrected and sent again, it is new.
        """
        new: dict[str, int] = {}
        if not events:
            return new
        unpaid = [one for one in events.values() if one["event_name"] in ("purchase", "refund") and "amount" not in one]
        for event, amount in zip(unpaid, with_amounts(event_frame(unpaid))["amount"] if unpaid else (), strict=True):
            event.update({} if amount is None else {"amount": amount})
        all_reasons = self._check(event_frame(list(events.values()))).to_list()
        for (place, event), reasons in zip(events.items(), all_reasons, strict=True):
            event_id, content = event["event_id"], content_key(event)
            known = new.get(event_id, self._ids.get(event_id))
            if reasons:
                verdict = Verdict(event_id, "quarantined", tuple(reasons), f"event: breaks the rule {reasons[0]}")
            elif known is None:
                new[event_id], verdict = content, Verdict(event_id, "accepted")
            elif known == content:
                verdict = Verdict(event_id, "duplicate")
            else:
                problem = "event_id: must name one event; it is known with other content"
                verdict = Verdict(event_id, "quarantined", (OTHER_CONTENT,), problem)
            verdicts[place] = verdict
        return new
