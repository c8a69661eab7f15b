"""Rules for rows and live events that all online stores share.

A live event is an event since the last load, stored as one appended row. Reads merge live events with the loaded lists:
the result is the last N events by (event_time, event_id), whatever the order and number of deliveries, and equals what
the stage `features` computes from the same events.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from features.online_stores.views import Encoded, Row, View
from features.tombstones import tombstone
from shoplens.errors import FeatureError, StoreUnavailableError

S = TypeVar("S")
T = TypeVar("T", bound=tuple[Any, ...])
RECENT_VIEW = "recent_events"  # the view of a user's last N events, as lists of equal length
# Its lists, and the field of a live event for each.
LISTS = {
    "recent_event_ids": "event_id",
    "recent_item_ids": "item_id",
    "recent_event_names": "event_name",
    "recent_event_times": "time",
    "recent_quantities": "quantity",
    "recent_amounts": "amount",
    "recent_order_keys": "order_key",
}


class LiveEvent(NamedTuple):
    """An event that arrived after the loaded data; stored as JSON that `LiveEvent(*json.loads(…))` reads.

    Attributes:
        user_id: The user.
        known_micros: When the event had both happened and been received, in microseconds since 1970 (UTC).
        time: When the event happened, in microseconds since 1970 (UTC).
        quantity: Quantity rounded to 32 bits, as features are stored; 0 for none.
        order_key: The order, or the session if there is none.
    """

    user_id: str
    known_micros: int
    time: int
    event_id: str
    item_id: str  # empty for none, like `order_key`
    event_name: str
    quantity: float
    amount: float
    order_key: str


def merge(
    names: Sequence[str], lists: Sequence[Sequence[Any] | None], live: Iterable[LiveEvent], last_n: int
) -> tuple[list[Any], ...]:
    """Merge loaded and live events; return lists of the last `last_n` of them, oldest first.

    Events are deduplicated by ID: a loaded event takes precedence over live ones, and an earlier live event over later
    ones. `lists` are in the order of `names`, and None where nothing was loaded.
    """
    fields = [LISTS[name] for name in names]
    columns = [values or () for values in lists]
    events = [LiveEvent("", 0, **dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)]
    in_order = attrgetter("time", "event_id")
    loaded = {event.event_id for event in events}
    first = {event.event_id: event for event in sorted(live, key=in_order, reverse=True)}
    events += [event for event in first.values() if event.event_id not in loaded]
    kept = sorted(events, key=in_order)[-last_n:]
    return tuple([getattr(event, field) for event in kept] for field in fields)


class RowStore(ABC):
    """Stores one row per view and key, replaced only by rows that are not older, and appends live events.

    Thread-safe. All methods raise `features.store.store_errors` if the store cannot be reached, read or written. A
    subclass implements a database that stores named texts, encoded rows, live events, and the tombstones of erased
    users; writes atomically reject erased users' rows and events.
    """

    _last_n: int | None = None
    _prepared: dict[str, View] | None = None

    @abstractmethod
    def meta(self, name: str) -> str | None:
        """Return a named text."""

    @abstractmethod
    def set_meta(self, name: str, text: str) -> None:
        """Store a named text."""

    @abstractmethod
    def _put(self, view: View, rows: list[Encoded]) -> None:
        """Write rows, never replacing a newer row; repeating an interrupted write completes it."""

    @abstractmethod
    def _fetch(self, views: list[str], keys: list[str], live: bool) -> tuple[list[Encoded], list[LiveEvent]]:
        """Return the rows of these keys and the live events of these users in one round trip."""

    @abstractmethod
    def append(self, events: Iterable[LiveEvent]) -> None:
        """Append live events atomically to a loaded store; events that it already has are ignored.

        Raises:
            StoreUnavailableError: no load has completed.
        """

    @abstractmethod
    def live(self) -> Iterator[LiveEvent]:
        """Yield all live events, sorted by user, event time and ID."""

    @abstractmethod
    def _delete(self, views: list[str], user_id: str) -> dict[str, int]:
        """Remove a user's rows from views and the user's live events; return the number of each."""

    @abstractmethod
    def reject(self, hashes: Iterable[str], *, only: bool = False) -> None:
        """Reject rows of the users with these tombstones from now on; with `only`, replace all earlier tombstones."""

    @abstractmethod
    def flush(self) -> None:
        """Make all writes durable."""

    @abstractmethod
    def remove(self) -> None:
        """Delete the store with all its content."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; the next use reopens it."""

    def views(self) -> dict[str, View]:
        """Return the prepared views by name, in the order of preparation."""
        held = json.loads(self.meta("views") or "{}").items()
        return {name: View(name, key, tuple(map(tuple, some)), ttl) for name, (key, some, ttl) in held}

    def prepare(self, view: View) -> None:
        """Prepare the store for a view.

        Raises:
            FeatureError: the store has rows of the view with another key or other features.
        """
        if self._prepared is None or self._prepared.get(view.name) != view:
            held = self.views()
            old = held.get(view.name, view)
            if (old.key, old.features) != (view.key, view.features):
                raise FeatureError(
                    f"view {view.name}: must have the key and features that the store was loaded with; run "
                    "`shoplens materialize`, which loads a new store"
                )
            self._prepared = held | {view.name: view}
            described = {name: (one.key, one.features, one.ttl_seconds) for name, one in self._prepared.items()}
            self.set_meta("views", json.dumps(described))

    def write(self, view: View, batch: pa.RecordBatch) -> None:
        """Write rows with the columns of `View.schema`, never replacing a newer row.

        Raises:
            FeatureError: a column is missing or has another type, or the view's features changed.
        """
        rows = view.encode(batch)
        self.prepare(view)
        self._put(view, rows)

    def read(self, views: Sequence[View], keys: Sequence[str]) -> list[dict[str, Row]]:
        """Return the rows of keys in each view, including expired ones; recent events include live events."""
        by_name = {view.name: view for view in views}
        stored, live = self._fetch(list(by_name), list(keys), RECENT_VIEW in by_name)
        found: dict[str, dict[str, Row]] = {name: {} for name in by_name}
        for name, key, micros, content in stored:
            found[name][key] = Row(key, micros, by_name[name].decode(content))
        for user, group in groupby(sorted(live), key=attrgetter("user_id")):
            events, view, rows = list(group), by_name[RECENT_VIEW], found[RECENT_VIEW]
            row = rows.get(user, Row(user, 0, (None,) * len(view.names)))
            lists = merge(view.names, row.values, events, self._keep())
            rows[user] = Row(user, max(row.event_micros, *(event.known_micros for event in events)), lists)
        return list(found.values())

    def loaded_rows(self, view: View, load: str) -> int:
        """Return the number of a view's rows that a load has written so far."""
        return int(json.loads(self.meta(f"loaded rows of {view.name}") or "{}").get(load, 0))

    def set_loaded_rows(self, view: View, load: str, rows: int) -> None:
        """Record the number of a view's rows that a load has written so far, from which a repeated load resumes."""
        self.set_meta(f"loaded rows of {view.name}", json.dumps({load: rows}))

    def finish(self, state: dict[str, Any]) -> None:
        """Make all writes durable and record the load: `last_n` and any further values."""
        self.set_meta("loaded", json.dumps(state))
        self._last_n = None
        self.flush()

    def state(self) -> dict[str, Any] | None:
        """Return the record of the load; None if no load has completed or the store has lost its content."""
        text = self.meta("loaded")
        return None if text is None else dict(json.loads(text))

    def _keep(self) -> int:
        """Return the number of recent events to keep per user, as recorded by the load."""
        if self._last_n is None:
            state = self.state()
            if state is None:
                raise StoreUnavailableError("online store: must hold a completed load; run `shoplens materialize`")
            self._last_n = int(state["last_n"])
        return self._last_n

    def erase(self, user_id: str) -> dict[str, int]:
        """Remove all rows of a user and reject new ones.

        Returns:
            The number of rows removed from each view keyed by user, and the number of live events.
        """
        self.reject([tombstone(user_id)])
        views = self.views().values()
        for view in views:  # loaded copies lose a row too, so an interrupted load must start over
            self.set_loaded_rows(view, "", 0)
        removed = self._delete([view.name for view in views if view.of_people], user_id)
        self.flush()
        return removed


def chunks(items: Sequence[S], size: int) -> Iterator[Sequence[S]]:
    """Yield consecutive chunks of `size` items; the last may be shorter."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def not_erased(rows: Sequence[T], user_place: int, erased: set[str]) -> Sequence[T]:
    """Drop the rows of users with one of these tombstones."""
    return [row for row in rows if tombstone(row[user_place]) not in erased] if erased else rows
