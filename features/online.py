"""Reading one user from the online store, as a service does: fresh values only, and never a guess when it is down."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from features.catalogue import Catalogue
from features.definitions import RECENT_DESCRIPTIONS
from features.online_stores.rows import RowStore
from features.online_stores.shape import Row, ViewShape
from features.recent import RecentEvents, recent_from_arrays
from features.store import Places, StoreState, data_moment, open_rows, open_store, places, read_state, store_errors
from shoplens.errors import FeatureError, StoreUnavailableError
from shoplens.settings import Settings

Feature = float | str | None
_LISTS = tuple(RECENT_DESCRIPTIONS)


@dataclass(frozen=True)
class UserState:
    """What is known of one user now.

    Attributes:
        user_id: Who.
        features: Slow features and profile by name; None where missing or expired.
        recent: The last N events, one row.
        snapshot_time: When the slow features were computed for (UTC); NaT when there are none.
        now: The moment that the values were read for (UTC).
    """

    user_id: str
    features: dict[str, Feature]
    recent: RecentEvents
    snapshot_time: np.datetime64
    now: np.datetime64


@dataclass(frozen=True)
class _View:
    """A view as it is read: which features, and how old they may be (zero: any age)."""

    shape: ViewShape
    names: tuple[str, ...]
    ttl: timedelta

    def fresh(self, row: Row | None, now: np.datetime64) -> Row | None:
        """Return a row, or None where there is none or it is too old: no store checks that, nor does Feast's read."""
        if row is None or self.ttl == timedelta(0):
            return row
        age = now - np.datetime64(row.event_micros, "us")
        return None if age > np.timedelta64(self.ttl, "us") else row


@dataclass(frozen=True)
class _Opened:
    """The online store with what is needed to judge its values."""

    rows: RowStore
    user: tuple[_View, ...]  # all that is known of a user
    views: dict[str, _View]
    state: StoreState
    stamp: tuple[Any, ...]


class OnlineReader:
    """Reads fresh values; opens the store when first used, and again when it was replaced. Threads may share it.

    What is read, and how old it may be, is what Feast's registry says. The rows are read as they are kept, without the
    messages that Feast would make of them: those take more time than all the rest, and give the same values.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._where: Places = places(settings)
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def now(self) -> np.datetime64:
        """Return the moment that predictions are made for (UTC): just after the last event known, or the wall clock.

        Raises:
            StoreUnavailableError: the clock is the data's, and nothing was loaded yet.
        """
        return self._now(self._current().state)

    def _now(self, state: StoreState) -> np.datetime64:
        if self._settings.clock == "wall":
            return np.datetime64("now", "us")
        moment = data_moment(self._where, state)
        return np.datetime64(moment.replace(tzinfo=None), "us")

    def _stamp(self) -> tuple[Any, ...]:
        """Return what changes when the store is replaced: the identity of its files."""
        used = self._where.online if self._settings.online_store == "sqlite" else self._where.redis
        try:
            state, registry, store = (path.stat() for path in (self._where.state, self._where.registry, used))
        except OSError as error:
            raise StoreUnavailableError(
                f"online store {self._where.home}: must hold a loaded store ({error}); run `shoplens materialize`"
            ) from error
        return state.st_mtime_ns, state.st_ino, registry.st_ino, store.st_ino

    def _current(self) -> _Opened:
        """Return the store, opened anew if its files are others than before."""
        with self._lock:
            stamp = self._stamp()
            if self._opened is None or self._opened.stamp != stamp:
                self._opened = None
                self._opened = self._open(stamp)
            return self._opened

    def _open(self, stamp: tuple[Any, ...]) -> _Opened:
        from feast.errors import FeastObjectNotFoundException
        from google.protobuf.message import DecodeError

        from features.services import USER_STATE

        state = read_state(self._where)
        if state is None:
            raise StoreUnavailableError(f"{self._where.state}: is missing; run `shoplens materialize`")
        try:
            feast = open_store(self._settings)
            shapes = {view.name: (ViewShape.of(view), view.ttl or timedelta(0)) for view in feast.list_feature_views()}
            chosen = {
                one.name: tuple(feature.name for feature in one.features)
                for one in feast.get_feature_service(USER_STATE).feature_view_projections
            }
        except (FeastObjectNotFoundException, DecodeError, OSError) as error:
            raise StoreUnavailableError(f"registry {self._where.registry}: cannot be used: {error}") from error
        views = {name: _View(shape, shape.names, ttl) for name, (shape, ttl) in shapes.items()}
        user = tuple(_View(shapes[name][0], names, shapes[name][1]) for name, names in chosen.items())
        return _Opened(open_rows(self._settings), user, views, state, stamp)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except store_errors(self._settings) as error:
            with self._lock:
                self._opened = None
            raise StoreUnavailableError(f"online store: cannot be read: {error}") from error

    def read(self, user_id: str, catalogue: Catalogue) -> UserState | None:
        """Return what is known of a user now; None for a user nobody has met.

        Raises:
            StoreUnavailableError: the store is missing, broken or out of reach.
        """
        opened = self._current()
        now = self._now(opened.state)
        key = (user_id,)
        with self._reading():
            rows = [opened.rows.read(view.shape, [key], view.names).get(key) for view in opened.user]
            if not any(rows) and opened.rows.loaded() is None:
                raise StoreUnavailableError("online store: has lost what was loaded; run `shoplens materialize`")
        fresh = [view.fresh(row, now) for view, row in zip(opened.user, rows, strict=True)]
        if not any(row is not None and any(value is not None for value in row.values) for row in fresh):
            return None
        values: dict[str, Any] = {}
        for view, row in zip(opened.user, fresh, strict=True):
            values.update(zip(view.names, row.values if row else (None,) * len(view.names), strict=True))
        taken = next((row for view, row in zip(opened.user, fresh, strict=True) if "recency_days" in view.names), None)
        snapshot = np.datetime64(taken.event_micros if taken else "NaT", "us")
        return self._state(user_id, values, snapshot, opened.state.last_n, catalogue, now)

    def read_view(self, view: str, keys: Sequence[str | tuple[str, ...]]) -> list[dict[str, Any] | None]:
        """Return the features of entities in one view, in the order of the keys; None where nothing fresh is known.

        Args:
            view: Name of an online view.
            keys: One text a key, or a tuple where the view has several, in the order of their names.

        Raises:
            FeatureError: there is no such view online.
            StoreUnavailableError: the store is missing, broken or out of reach.
        """
        opened = self._current()
        if view not in opened.views:
            raise FeatureError(f"view: must be one of {', '.join(sorted(opened.views))}; received {view!r}")
        chosen, now = opened.views[view], self._now(opened.state)
        wanted = [(key,) if isinstance(key, str) else key for key in keys]
        with self._reading():
            found = opened.rows.read(chosen.shape, wanted)
        rows = [chosen.fresh(found.get(key), now) for key in wanted]
        return [dict(zip(chosen.names, row.values, strict=True)) if row is not None else None for row in rows]

    def _state(
        self,
        user_id: str,
        values: dict[str, Any],
        snapshot: np.datetime64,
        last_n: int,
        catalogue: Catalogue,
        now: np.datetime64,
    ) -> UserState:
        _, items, names, times, quantities, amounts, orders = (values[name] or [] for name in _LISTS)
        return UserState(
            user_id=user_id,
            features={name: _plain(value) for name, value in values.items() if name not in _LISTS},
            recent=recent_from_arrays(items, names, times, quantities, amounts, orders, last_n, catalogue),
            snapshot_time=snapshot,
            now=now,
        )


def _plain(value: Any) -> Feature:
    return value if value is None or isinstance(value, str) else float(value)
