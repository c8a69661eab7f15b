"""What every online store does with rows and live events, whichever database holds them.

A live event is what a user did since the last load, one appended row per event. Reading merges them with the loaded
lists: the last N by (event_time, event_id) of all that arrived, in whatever order and however often, which is what the
stage `features` computes from the same events.
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
RECENT_VIEW = "recent_events"  # the view of the last N events of a user, as lists of equal length
# Its lists, and the field of a live event that each is made of.
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
    """An event that arrived after the data that were loaded; the stores keep it as JSON, `LiveEvent(*json.loads(…))`.

    Attributes:
        user_id: Who did it.
        known_micros: When it was both over and received: microseconds since 1970, UTC.
        time: When it happened: microseconds since 1970, UTC.
        quantity: Rounded to 32 bits, as features are stored; 0: none.
        order_key: Order, else session.
    """

    user_id: str
    known_micros: int
    time: int
    event_id: str
    item_id: str  # empty: none, as for `order_key`
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
    """One row per key of a view, replaced only by a row that is not older; live events of users, appended.

    Safe to share between threads. All methods raise what `features.store.store_errors` names when the store cannot be
    reached, read or written. A subclass is a database: it keeps texts under names, encoded rows, live events, and the
    tombstones of erased users, whose rows and events it rejects in the same step in which it writes.
    """

    _last_n: int | None = None
    _prepared: dict[str, View] | None = None

    @abstractmethod
    def meta(self, name: str) -> str | None:
        """Return the text kept under a name."""

    @abstractmethod
    def set_meta(self, name: str, text: str) -> None:
        """Keep a text under a name."""

    @abstractmethod
    def _put(self, view: View, rows: list[Encoded]) -> None:
        """Write rows, each only over one that is not newer; what was interrupted is completed by the same again."""

    @abstractmethod
    def _fetch(self, views: list[str], keys: list[str], live: bool) -> tuple[list[Encoded], list[LiveEvent]]:
        """Return the rows of these keys, and the live events of users with these IDs, in one round trip."""

    @abstractmethod
    def append(self, events: Iterable[LiveEvent]) -> None:
        """Add live events in one step to a store that was loaded; one that is there already changes nothing.

        Raises:
            StoreUnavailableError: no load was completed.
        """

    @abstractmethod
    def live(self) -> Iterator[LiveEvent]:
        """Yield all live events, sorted by user, event time and ID."""

    @abstractmethod
    def _delete(self, views: list[str], user_id: str) -> dict[str, int]:
        """Remove a user's rows from views, and the live events; return how many there were of each."""

    @abstractmethod
    def reject(self, hashes: Iterable[str], *, only: bool = False) -> None:
        """Reject rows of the users with these tombstones from now on; with `only`, of nobody else."""

    @abstractmethod
    def flush(self) -> None:
        """Make all that was written durable."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the store with all that it holds."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; the next use opens it again."""

    def views(self) -> dict[str, View]:
        """Return the views that there may be rows of by name, in the order in which they were prepared."""
        held = json.loads(self.meta("views") or "{}").items()
        return {name: View(name, key, tuple(map(tuple, some)), ttl) for name, (key, some, ttl) in held}

    def prepare(self, view: View) -> None:
        """Make room for a view.

        Raises:
            FeatureError: the store holds rows of the view with another key or other features.
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
        """Write rows with the columns of `View.schema`, each only over one that is not newer.

        Raises:
            FeatureError: a column is missing or has another type, or the view's features changed.
        """
        rows = view.encode(batch)
        self.prepare(view)
        self._put(view, rows)

    def read(self, views: Sequence[View], keys: Sequence[str]) -> list[dict[str, Row]]:
        """Return the rows of keys in each view, expired or not; live events are among the recent events."""
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
        """Return how many rows of a view a load has written so far."""
        return int(json.loads(self.meta(f"loaded rows of {view.name}") or "{}").get(load, 0))

    def set_loaded_rows(self, view: View, load: str, rows: int) -> None:
        """Record how many rows of a view a load has written so far; one that is run again goes on from there."""
        self.set_meta(f"loaded rows of {view.name}", json.dumps({load: rows}))

    def finish(self, state: dict[str, Any]) -> None:
        """Make all that was written durable, and record what was loaded: `last_n` and whatever else."""
        self.set_meta("loaded", json.dumps(state))
        self._last_n = None
        self.flush()

    def state(self) -> dict[str, Any] | None:
        """Return what was loaded; None where no load was completed, or the store has lost its content."""
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
        """Remove all rows of a user, and reject them from then on.

        Returns:
            How many rows were removed from each view that is keyed by users, and how many live events.
        """
        self.reject([tombstone(user_id)])
        views = self.views().values()
        for view in views:  # the copies that are loaded lose a row, too: a load that was interrupted begins again
            self.set_loaded_rows(view, "", 0)
        removed = self._delete([view.name for view in views if view.of_people], user_id)
        self.flush()
        return removed


def chunks(items: Sequence[S], size: int) -> Iterator[Sequence[S]]:
    """Yield consecutive parts of `size` items each; the last may be shorter."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def not_erased(rows: Sequence[T], user_place: int, erased: set[str]) -> Sequence[T]:
    """Return rows without those of users with one of these tombstones."""
    return [row for row in rows if tombstone(row[user_place]) not in erased] if erased else rows
