"""Read one user from the online store for serving: only fresh values, and an error if the store is down."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.catalogue import Catalogue
from features.histories import Histories, history_of_lists
from features.online_stores.rows import LISTS, RowStore
from features.online_stores.views import View
from features.store import StoreState, data_moment, open_rows, places, read_state, store_errors, store_name
from shoplens.errors import StoreUnavailableError
from shoplens.settings import Settings

Feature = float | str | None


@dataclass(frozen=True)
class UserState:
    """Everything known about one user now.

    Attributes:
        user_id: ID of the user.
        features: Slow features and profile by name; None if missing or expired.
        history: The last N events, as one row.
        snapshot_time: As-of time of the slow features (UTC); NaT if there are none.
        now: Time for which the values were read (UTC).
    """

    user_id: str
    features: dict[str, Feature]
    history: Histories
    snapshot_time: np.datetime64
    now: np.datetime64


@dataclass(frozen=True)
class _Opened:
    """An open online store with the metadata needed to interpret its values."""

    rows: RowStore
    views: tuple[View, ...]  # views keyed by user
    state: StoreState
    stamp: tuple[int, ...]


class OnlineReader:
    """Reads fresh values; opens the store on first use, and reopens it after a switch. Thread-safe.

    All rows of a user are read in one round trip. The store itself records its views and their TTLs, so neither Feast
    nor its registry is needed.
    """

    def __init__(self, settings: Settings, digest: str | None = None) -> None:
        """Read the current online store, or the one for the data with this digest."""
        self._settings, self._digest, self._name = settings, digest, digest and store_name(digest)
        self._where = places(settings)
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def now(self) -> np.datetime64:
        """Return the time that predictions are made for (UTC): just after the last known event, or the wall clock.

        Raises:
            StoreUnavailableError: the data's clock is used, and nothing has been loaded yet.
        """
        return self._now(self._current().state)

    def _now(self, state: StoreState) -> np.datetime64:
        if self._settings.clock == "wall":
            return np.datetime64("now", "us")
        return np.datetime64(data_moment(self._where, state).replace(tzinfo=None), "us")

    def _current(self) -> _Opened:
        """Return the store, reopened if its files have changed."""
        used = self._where.online_store(self._settings, self._name) if self._name else self._where.online
        with self._lock:
            try:
                state, store = self._where.state.stat(), used.stat()
            except OSError as error:
                raise StoreUnavailableError(
                    f"online store {used}: must be loaded ({error}); run `shoplens materialize`"
                ) from error
            stamp = (state.st_mtime_ns, state.st_ino, store.st_ino)
            if self._opened is None or self._opened.stamp != stamp:
                self._opened = None
                self._opened = self._open(stamp)
            return self._opened

    def _open(self, stamp: tuple[int, ...]) -> _Opened:
        rows = open_rows(self._settings, self._name)
        state = read_state(self._where)
        with self._reading():
            if self._name:
                held = rows.state()
                if held is None or held["digest"] != self._digest:  # a killed load left its first rows
                    rows.close()
                    raise StoreUnavailableError(
                        f"online store {self._name}: must hold a completed load; run `shoplens materialize`"
                    )
                state = StoreState(**held)
            views = tuple(view for view in rows.views().values() if view.of_people)
        if state is None:
            raise StoreUnavailableError(f"{self._where.state}: is missing; run `shoplens materialize`")
        return _Opened(rows, views, state, stamp)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except store_errors(self._settings) as error:
            self._opened = None
            raise StoreUnavailableError(f"online store: cannot be read: {error}") from error

    def read(self, user_id: str, catalogue: Catalogue) -> UserState | None:
        """Return everything known about a user now; None for an unknown user.

        Raises:
            StoreUnavailableError: the store is missing, broken or out of reach.
        """
        opened = self._current()
        now = self._now(opened.state)
        with self._reading():
            found = [rows.get(user_id) for rows in opened.rows.read(opened.views, [user_id])]
            if not any(found) and opened.rows.state() is None:
                raise StoreUnavailableError("online store: has lost its loaded rows; run `shoplens materialize`")
        values: dict[str, Any] = {}
        snapshot: Any = np.datetime64("NaT", "us")
        for view, row in zip(opened.views, found, strict=True):
            values |= dict.fromkeys(view.names)
            if row is None:
                continue
            moment = np.datetime64(row.event_micros, "us")
            age_micros = (now - moment).astype(int)
            if view.ttl_seconds and age_micros > view.ttl_seconds * 1_000_000:
                continue  # expired; neither the stores nor Feast's own read check this
            values |= zip(view.names, row.values, strict=True)
            if "recency_days" in view.names:
                snapshot = moment
        if all(value is None for value in values.values()):
            return None
        _, items, names, times, quantities, amounts, orders = (values.pop(name, None) or [] for name in LISTS)
        return UserState(
            user_id=user_id,
            features={name: one if one is None or isinstance(one, str) else float(one) for name, one in values.items()},
            history=history_of_lists(items, names, times, quantities, amounts, orders, opened.state.last_n, catalogue),
            snapshot_time=snapshot,
            now=now,
        )
