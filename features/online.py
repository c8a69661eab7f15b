"""Reading one user from the online store, as a service does: fresh values only, and never a guess when it is down."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from features.catalogue import Catalogue
from features.definitions import RECENT_DESCRIPTIONS
from features.recent import RecentEvents, recent_from_arrays
from features.store import Places, StoreState, data_moment, open_store, places, read_state, store_errors
from shoplens.errors import StoreUnavailableError
from shoplens.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

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
class _Opened:
    """A feature store with what is needed to judge its values."""

    store: "FeatureStore"
    service: Any
    state: StoreState
    ttl: dict[str, timedelta]  # feature -> age from which it is expired; zero: never
    stamp: tuple[Any, ...]


class OnlineReader:
    """Reads users through Feast; opens the store when first used, and again when it was replaced.

    Safe to share between threads. Feast's store object is not, so reads take turns; one takes about a millisecond.
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
        with self._lock:
            return self._now(self._current().state)

    def _now(self, state: StoreState) -> np.datetime64:
        if self._settings.clock == "wall":
            return np.datetime64("now", "us")
        moment = data_moment(self._where, state)
        return np.datetime64(moment.replace(tzinfo=None), "us")

    def _stamp(self) -> tuple[Any, ...]:
        """Return what changes when the store is replaced: the identity of its files."""
        files = [self._where.state, self._where.registry]
        if self._settings.online_store == "sqlite":
            files.append(self._where.online)
        try:
            found = [path.stat() for path in files]
        except OSError as error:
            raise StoreUnavailableError(
                f"online store {self._where.home}: must hold a loaded store ({error}); run `shoplens materialize`"
            ) from error
        state = found[0]
        return (state.st_mtime_ns, state.st_ino, found[1].st_ino, *(one.st_ino for one in found[2:]))

    def _current(self) -> _Opened:
        """Return the store, opened anew if its files are others than before."""
        stamp = self._stamp()
        if self._opened is None or self._opened.stamp != stamp:
            self._opened = None
            self._opened = self._open(stamp)
        return self._opened

    def _open(self, stamp: tuple[Any, ...]) -> _Opened:
        from feast.errors import FeastObjectNotFoundException
        from google.protobuf.message import DecodeError

        from features.repo import USER_STATE

        state = read_state(self._where)
        if state is None:
            raise StoreUnavailableError(f"{self._where.state}: is missing; run `shoplens materialize`")
        try:
            store = open_store(self._settings)
            service = store.get_feature_service(USER_STATE)
            ttl = {
                feature.name: store.get_feature_view(projection.name).ttl or timedelta(0)
                for projection in service.feature_view_projections
                for feature in projection.features
            }
        except (FeastObjectNotFoundException, DecodeError, OSError) as error:
            raise StoreUnavailableError(f"registry {self._where.registry}: cannot be used: {error}") from error
        return _Opened(store, service, state, ttl, stamp)

    def read(self, user_id: str, catalogue: Catalogue) -> UserState | None:
        """Return what is known of a user now; None for a user nobody has met.

        Raises:
            StoreUnavailableError: the store is missing, broken or out of reach.
        """
        with self._lock:
            opened = self._current()
            try:
                answer = opened.store.get_online_features(opened.service, [{"user_id": user_id}]).proto
            except store_errors(self._settings) as error:
                self._opened = None
                raise StoreUnavailableError(f"online store: cannot be read: {error}") from error
            now = self._now(opened.state)
        values = dict(_alive(answer, opened.ttl, now))
        if all(value is None for value, _ in values.values()):
            return None
        return self._state(user_id, values, opened.state.last_n, catalogue, now)

    def _state(
        self,
        user_id: str,
        values: dict[str, tuple[Any, np.datetime64]],
        last_n: int,
        catalogue: Catalogue,
        now: np.datetime64,
    ) -> UserState:
        _, items, names, times, quantities, amounts, orders = (values[name][0] or [] for name in _LISTS)
        features = {name: _plain(value) for name, (value, _) in values.items() if name not in _LISTS}
        taken = values["recency_days"]
        return UserState(
            user_id=user_id,
            features=features,
            recent=recent_from_arrays(items, names, times, quantities, amounts, orders, last_n, catalogue),
            snapshot_time=taken[1] if taken[0] is not None else np.datetime64("NaT", "us"),
            now=now,
        )


def _plain(value: Any) -> Feature:
    return value if value is None or isinstance(value, str) else float(value)


def _alive(
    answer: Any, ttl: dict[str, timedelta], now: np.datetime64
) -> Iterator[tuple[str, tuple[Any, np.datetime64]]]:
    """Yield name, value and event time of every feature in Feast's answer; an expired value is None.

    Feast checks a time to live when it joins, but not when it reads online.
    """
    from feast.type_map import feast_value_type_to_python_type

    for name, column in zip(answer.metadata.feature_names.val, answer.results, strict=True):
        if name not in ttl:
            continue  # the entity itself
        seen = column.event_timestamps[0]
        moment = np.datetime64(seen.seconds * 1_000_000 + seen.nanos // 1000, "us")
        limit = ttl[name]
        expired = limit > timedelta(0) and now - moment > np.timedelta64(limit, "us")
        yield name, (None if expired else feast_value_type_to_python_type(column.values[0]), moment)
