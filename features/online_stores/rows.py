"""What every online store does with rows, whichever database holds them."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from features.online_stores import live_events
from features.online_stores.live_events import LiveEvent, RecentEvent
from features.online_stores.views import Encoded, Key, Row, View
from features.tombstones import ERASABLE_KEY, tombstone
from shoplens.errors import FeatureError, StoreUnavailableError

Stored = tuple[str, str, int, bytes]  # view, key, event time, encoded features


class RowStore(ABC):
    """One row per key of a view, replaced only by a row that is not older; live events of users, appended.

    Safe to share between threads. All methods raise what `features.store.store_errors` names when the store cannot be
    reached, read or written. A subclass is a database: it keeps texts under names (`_meta`), encoded rows, live events,
    and the tombstones of erased users, whose rows and events it rejects in the same step in which it writes.
    """

    _last_n: int | None = None
    _views: dict[str, View] | None = None

    @abstractmethod
    def _meta(self, name: str) -> str | None:
        """Return the text kept under a name."""

    @abstractmethod
    def _set_meta(self, name: str, text: str) -> None:
        """Keep a text under a name."""

    @abstractmethod
    def _put(self, view: str, rows: list[Encoded]) -> None:
        """Write rows, each only over one that is not newer; what was interrupted is completed by the same again."""

    @abstractmethod
    def _append(self, events: list[LiveEvent], last_n: int) -> None:
        """Add live events in one step, and keep the latest `last_n` of each of their users."""

    @abstractmethod
    def _fetch(self, views: list[str], keys: list[str], live: bool) -> tuple[list[Stored], list[LiveEvent]]:
        """Return the rows of these keys, and the live events of users with these IDs, in one round trip."""

    @abstractmethod
    def _scan(self, view: str) -> Iterator[tuple[str, int, bytes]]:
        """Yield key, event time and encoded features of all rows of a view, sorted by key."""

    @abstractmethod
    def _delete(self, view: str, keys: Iterable[str]) -> int:
        """Remove rows, and return how many there were."""

    @abstractmethod
    def _delete_live(self, user_id: str) -> int:
        """Remove the live events of a user, and return how many there were."""

    @abstractmethod
    def live(self) -> Iterator[LiveEvent]:
        """Yield all live events, sorted by user, event time and ID."""

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
        held = json.loads(self._meta("views") or "[]")
        return {
            one["name"]: View(**one | {"keys": tuple(one["keys"]), "features": tuple(map(tuple, one["features"]))})
            for one in held
        }

    def prepare(self, view: View) -> None:
        """Make room for a view.

        Raises:
            FeatureError: the store holds rows of the view with other keys or features.
        """
        if self._views is None or self._views.get(view.name) != view:
            held = self.views()
            old = held.get(view.name, view)
            if (old.keys, old.features) != (view.keys, view.features):
                raise FeatureError(
                    f"view {view.name}: the store was loaded with other keys or features; run `shoplens materialize`, "
                    "which loads a new store"
                )
            self._views = held | {view.name: view}
            self._set_meta("views", json.dumps([asdict(one) for one in self._views.values()]))

    def drop(self, name: str) -> None:
        """Remove a view and all its rows."""
        self._delete(name, [key for key, _, _ in self._scan(name)])
        self._views = self.views()
        self._views.pop(name, None)
        self._set_meta("views", json.dumps([asdict(one) for one in self._views.values()]))

    def write(self, view: View, batch: pa.RecordBatch) -> None:
        """Write rows, each only over one that is not newer.

        Args:
            view: View of the rows, which is prepared where it is new.
            batch: Columns of `View.schema`.

        Raises:
            FeatureError: a column is missing or has another type.
        """
        rows = view.encode(batch)
        self.prepare(view)
        self._put(view.name, rows)

    def append(self, events: Iterable[LiveEvent]) -> None:
        """Add live events of users to a store that was loaded; one that is there already changes nothing.

        Raises:
            StoreUnavailableError: no load was completed.
        """
        self._append(list(events), self._keep())

    def read(self, views: Sequence[View], keys: Sequence[Key]) -> list[dict[Key, Row]]:
        """Return the rows of keys in each view, expired or not; live events are among the recent events.

        Args:
            views: Views with the same join keys.
            keys: In the order of `View.keys`.
        """
        by_name, texts = {view.name: view for view in views}, {View.key_text(key): key for key in keys}
        stored, live = self._fetch(list(by_name), list(texts), live_events.VIEW in by_name)
        found: dict[str, dict[Key, Row]] = {name: {} for name in by_name}
        for name, text, micros, content in stored:
            found[name][texts[text]] = Row(texts[text], micros, by_name[name].codec.decode(content))
        events: dict[Key, list[LiveEvent]] = {}
        for event in live:
            events.setdefault((event.user_id,), []).append(event)
        for key, some in events.items():
            view, rows = by_name[live_events.VIEW], found[live_events.VIEW]
            row = rows.get(key, Row(key, 0, (None,) * len(view.names)))
            lists = live_events.merge(view.names, row.values, (one.event for one in some), self._keep())
            rows[key] = Row(key, max(row.event_micros, *(one.known_micros for one in some)), lists)
        return list(found.values())

    def _keep(self) -> int:
        """Return how many recent events are kept per user, as the load defined it."""
        if self._last_n is None:
            state = self.state()
            if state is None:
                raise StoreUnavailableError("online store: must hold a completed load; run `shoplens materialize`")
            self._last_n = int(state["last_n"])
        return self._last_n

    def scan(self, view: View) -> Iterator[Row]:
        """Yield all rows of a view as they were written, sorted by key."""
        for key, micros, content in self._scan(view.name):
            yield Row(view.key_parts(key), micros, view.codec.decode(content))

    def slices(self, view: str, load: str) -> int:
        """Return how many slices of a load of a view are in the store."""
        held = json.loads(self._meta(f"slices of {view}") or "{}")
        return int(held.get(load, 0))

    def set_slices(self, view: str, load: str, slices: int) -> None:
        """Record that so many slices of a load are in the store; another load begins at its first slice."""
        self._set_meta(f"slices of {view}", json.dumps({load: slices}))

    def finish(self, state: dict[str, Any]) -> None:
        """Make all that was written durable, and record what was loaded: `last_n` and whatever else."""
        self._set_meta("loaded", json.dumps(state))
        self._last_n = None
        self.flush()

    def state(self) -> dict[str, Any] | None:
        """Return what was loaded; None where no load was completed, or the store has lost its content."""
        text = self._meta("loaded")
        return None if text is None else dict(json.loads(text))

    def erase(self, user_id: str) -> dict[str, int]:
        """Remove all rows of a user, and reject them from then on.

        Returns:
            How many rows were removed from each view that is keyed by users, and how many live events.
        """
        self.reject([tombstone(user_id)])
        removed = {}
        for view in self.views().values():
            if view.keys == (ERASABLE_KEY,):
                removed[view.name] = self._delete(view.name, [user_id])
            elif ERASABLE_KEY in view.keys:
                place = view.keys.index(ERASABLE_KEY)
                keys = [key for key, _, _ in self._scan(view.name) if view.key_parts(key)[place] == user_id]
                removed[view.name] = self._delete(view.name, keys)
        removed["live_events"] = self._delete_live(user_id)
        self.flush()
        return removed

    def digest(self) -> str:
        """Return a digest of views, rows and live events, to the bit; the order of writing is not part of it."""
        total = hashlib.sha256()
        for name, view in sorted(self.views().items()):
            total.update(f"{view!r}\n".encode())
            for row in self._scan(name):
                total.update(f"{row!r}\n".encode())
        for event in self.live():
            total.update(f"{event!r}\n".encode())
        return total.hexdigest()


def not_erased(rows: Iterable[Any], erased: set[str]) -> Iterable[Any]:
    """Return rows and live events without those of users with one of these tombstones."""
    return [row for row in rows if tombstone(row.user_id) not in erased] if erased else rows


def event_to_json(event: LiveEvent) -> str:
    """Return a live event as the stores keep it."""
    return json.dumps([event.user_id, event.known_micros, *event.event])


def event_from_json(text: str | bytes) -> LiveEvent:
    """Return the live event that `event_to_json` gave this text."""
    user_id, known_micros, *event = json.loads(text)
    return LiveEvent(user_id, known_micros, RecentEvent(*event))
