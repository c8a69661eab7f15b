"""The follower of the collector's log that pushes the last N events of users online."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from events.collector.log import Record
from events.collector.records import events_of
from features.live.lists import RecentRow, joined, lists_of, micros, row_of, rows_of
from features.online_stores.access import OnlineRows
from features.online_stores.rows import Key
from features.online_stores.shape import Row
from features.store import StoreState, in_use, places, read_state, write_live
from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings

VIEW = "recent_events"
_MICROSECOND = timedelta(microseconds=1)
Missed = Callable[[datetime], Iterable[list[dict[str, Any]]]]


@dataclass(frozen=True)
class _Target:
    """What the store is now: another one holds nothing of what was pushed."""

    lineage: str
    file: str

    @classmethod
    def of(cls, settings: Settings, state: StoreState) -> "_Target":
        generation = in_use(settings)
        if generation is None:
            raise StoreUnavailableError(
                f"{places(settings).home}: must hold a loaded store; run `shoplens materialize`"
            )
        return cls(state.lineage, generation)


class OnlinePush:
    """Brings collected events into the last N events of their users, whatever the store, and moves the live moment."""

    name = "push"

    def __init__(self, settings: Settings, missed: Missed) -> None:
        """Push into the online store of the settings.

        Args:
            settings: Of the project.
            missed: Gives the events known at or after a moment, of what has left the log: they are pushed again when
                the store was made anew.
        """
        self._settings, self._missed = settings, missed
        self._where = places(settings)
        self._target_path = settings.live_dir / "target.json"
        self._store: OnlineRows | None = None
        self._names: tuple[str, ...] = ()
        self._target: _Target | None = None
        self._state: StoreState | None = None

    def rewind(self) -> bool:
        """Open the store, again if it is another one; then push what the log no longer holds, and follow it anew.

        Raises:
            StoreUnavailableError: nothing was loaded yet, or the store cannot be reached.
        """
        target, state = self._now()
        self._state = state
        if self._store is not None and target == self._target:
            return False
        self.close()
        store = OnlineRows(self._settings)
        self._names = store.shape(VIEW).names
        self._store, self._target = store, target
        if target == self._kept_target():
            return False
        for events in self._missed(datetime.fromisoformat(state.high_water)):
            self._push(events)
        write_json(self._target_path, asdict(target))
        return True

    def follow(self, records: Sequence[Record]) -> None:
        """Push the events of known users among records.

        Raises:
            StoreUnavailableError: the store cannot be reached; nothing of the records was pushed.
        """
        self._push(events_of(records))

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()
        self._store = None

    def _now(self) -> tuple[_Target, StoreState]:
        state = read_state(self._where)
        if state is None:
            raise StoreUnavailableError(f"{self._where.state}: is missing; run `shoplens materialize`")
        return _Target.of(self._settings, state), state

    def _kept_target(self) -> _Target | None:
        with suppress(OSError, ValueError, TypeError):
            return _Target(**read_json(self._target_path))
        return None

    def _push(self, events: list[dict[str, Any]]) -> None:
        new: dict[Key, list[RecentRow]] = {}
        known: dict[Key, int] = {}
        latest = 0
        for event in events:
            moment = micros(max(event["event_time"], event["ingested_at"]))
            latest = max(latest, moment)
            if event.get("user_id") is not None:  # else it is not known yet who it was
                key = (event["user_id"],)
                new.setdefault(key, []).append(row_of(event))
                known[key] = max(known.get(key, 0), moment)
        if new and self._store is not None:
            self._store.change(VIEW, list(new), lambda held: self._joined(held, new, known))
        if latest:
            self._advance(latest)

    def _joined(self, held: dict[Key, Row], new: dict[Key, list[RecentRow]], known: dict[Key, int]) -> Iterable[Row]:
        """Yield the rows of users with their new events in place; a row dates from when the last became known."""
        n = 0 if self._state is None else self._state.last_n
        for key, events in new.items():
            row = held.get(key)
            before = rows_of(dict(zip(self._names, row.values, strict=True))) if row is not None else []
            lists = lists_of(joined(before, events, n))
            moment = known[key] if row is None else max(known[key], row.event_micros)
            yield Row(key, moment, tuple(lists[name] for name in self._names))

    def _advance(self, latest: int) -> None:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=latest + 1)
        if self._state is not None:
            write_live(self._where, self._state, moment)
