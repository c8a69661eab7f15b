"""The verdict on every event that comes in, written to the log before anybody hears of it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars as pl

from events.collector.incoming import Incoming, content_digest
from events.collector.log import EventLog, Record
from events.collector.records import accepted, events_of, frame_of, set_aside
from events.collector.sessions import Sessions
from events.content import OTHER_CONTENT

Check = Callable[[pl.DataFrame], pl.Series]  # EVENT_SCHEMA -> a list of reasons a row
Status = Literal["accepted", "duplicate", "quarantined"]
_IDS_KEPT = 1_000_000
_READ_BYTES = 8 << 20
_SKEW = timedelta(seconds=60)  # how far a sender's clock may be ahead of ours
_AHEAD_OF_DATA = timedelta(days=7)  # how far events may run ahead of frozen data
IN_FUTURE = "event_time_in_future"


@dataclass(frozen=True)
class Verdict:
    """What became of one event.

    Attributes:
        event_id: Its id; None where it has none.
        status: accepted (now on disk), duplicate (its id was taken before), quarantined (set aside, on disk).
        reasons: Why it is set aside.
        problem: The first of them for a person.
    """

    event_id: str | None
    status: Status
    reasons: tuple[str, ...] = ()
    problem: str = ""


class Clock:
    """When something reached us.

    On the wall's clock that is now. On the data's clock it is what the event itself says (`ingested_at`, else
    `event_time`): data of the past are played as they happened, and what lies far beyond them is refused.
    """

    def __init__(self, now_of_data: Callable[[], datetime] | None = None) -> None:
        """Go by the wall, or by the data's own moment."""
        self._data = now_of_data

    def limit(self) -> datetime:
        """Return the latest time that an event may have happened at."""
        return datetime.now(UTC) + _SKEW if self._data is None else self._data() + _AHEAD_OF_DATA

    def ingested(self, event: dict[str, Any]) -> datetime:
        """Return when an event reached us, never before it happened."""
        if self._data is None:
            moment: datetime = max(datetime.now(UTC), event["event_time"])
        else:
            moment = event.get("ingested_at", event["event_time"])
        return moment


class Intake:
    """Takes events in, in batches. For one thread."""

    def __init__(self, log: EventLog, check: Check, clock: Clock) -> None:
        """Take what the log still holds as known: ids, and sessions that go on.

        Args:
            log: Where events go.
            check: What must hold of an event beyond its types; names the reasons of every row.
            clock: When events reach us.
        """
        self._log, self._check, self._clock = log, check, clock
        self._ids: OrderedDict[str, str] = OrderedDict()  # event id -> digest of its content
        self._sessions = Sessions()
        check(frame_of([]))  # what it needs is loaded now, not when the first event waits
        place = log.begin
        while place < log.end:
            records, place = log.read(place, _READ_BYTES)
            self._remember(records)

    def _remember(self, records: list[Record]) -> None:
        for event in events_of(records):
            self._know(event)
            who = event.get("user_id") or event["anonymous_id"]
            self._sessions.note(who, event["event_time"], event["session_id"])

    def _know(self, event: dict[str, Any]) -> None:
        self._ids[event["event_id"]] = content_digest(event)
        if len(self._ids) > _IDS_KEPT:
            self._ids.popitem(last=False)

    def _again(self, event: dict[str, Any]) -> Verdict:
        """Return the verdict on an event whose id is known."""
        event_id = event["event_id"]
        if content_digest(event) == self._ids[event_id]:
            return Verdict(event_id, "duplicate")
        problem = "event_id: must name one event; another one came with this id before"
        return Verdict(event_id, "quarantined", (OTHER_CONTENT,), problem)

    def _completed(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event with the moment it reached us, in UTC, and its session."""
        done = {**event, "event_time": event["event_time"].astimezone(UTC)}
        done["ingested_at"] = self._clock.ingested(done).astimezone(UTC)
        who = done.get("user_id") or done["anonymous_id"]
        if "session_id" in done:
            self._sessions.note(who, done["event_time"], done["session_id"])
        else:
            done["session_id"] = self._sessions.of(who, done["event_time"])
        return done

    def take(self, incoming: Sequence[Incoming]) -> list[Verdict]:
        """Judge events, put them on disk, and only then return what became of each, in order.

        Raises:
            OSError: the disk refuses; nothing was taken, and the same events may be sent again.
        """
        limit = self._clock.limit()
        fresh, places, verdicts = [], [], [Verdict(None, "quarantined", one.reasons, one.problem) for one in incoming]
        new_ids: list[str] = []
        for place, one in enumerate(incoming):
            if one.reasons:
                continue
            event_id = one.event["event_id"]
            if one.event["event_time"] > limit:
                problem = f"event_time: must not be after {limit.isoformat()}, the clock's limit"
                verdicts[place] = Verdict(event_id, "quarantined", (IN_FUTURE,), problem)
            elif event_id in self._ids:
                verdicts[place] = self._again(one.event)
            else:
                self._know(one.event)
                new_ids.append(event_id)
                fresh.append(self._completed(one.event))
                places.append(place)
                verdicts[place] = Verdict(event_id, "accepted")
        self._judge(fresh, places, verdicts)
        try:
            self._write(incoming, fresh, places, verdicts)
        except OSError:
            for event_id in new_ids:  # not taken: sent again, they are new
                self._ids.pop(event_id, None)
            raise
        return verdicts

    def _judge(self, fresh: list[dict[str, Any]], places: list[int], verdicts: list[Verdict]) -> None:
        """Turn the verdict on events that break a rule."""
        if not fresh:
            return
        for place, reasons in zip(places, self._check(frame_of(fresh)).to_list(), strict=True):
            if reasons:
                self._ids.pop(verdicts[place].event_id or "", None)  # corrected and sent again, it is new
                problem = f"event: breaks the rule {reasons[0]}"
                verdicts[place] = Verdict(verdicts[place].event_id, "quarantined", tuple(reasons), problem)

    def _write(
        self,
        incoming: Sequence[Incoming],
        fresh: list[dict[str, Any]],
        places: list[int],
        verdicts: list[Verdict],
    ) -> None:
        completed = dict(zip(places, fresh, strict=True))
        contents = []
        for place, (one, verdict) in enumerate(zip(incoming, verdicts, strict=True)):
            if verdict.status == "accepted":
                contents.append(accepted(completed[place]))
            elif verdict.status == "quarantined":
                raw = one.raw or accepted(one.event).decode()
                contents.append(set_aside(raw, verdict.reasons))
        if contents:
            self._log.append(contents)
