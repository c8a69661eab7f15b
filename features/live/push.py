"""The follower of the collector's log that appends live events to the online stores."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from events.collector.log import Record
from events.collector.records import events_of
from events.lake import Place, is_lake, known_since
from features.online_stores.rows import LiveEvent, RowStore
from features.online_stores.sqlite_rows import DAMAGED
from features.store import StoreState, in_use, online_stores, open_rows, places, read_state, store_errors, write_live
from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings

_log = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def live_event(event: Mapping[str, Any]) -> LiveEvent:
    """Convert an event of the contract, with times as `datetime`, to the online stores' format."""
    known = max(event["event_time"], event["ingested_at"])
    return LiveEvent(
        user_id=event["user_id"],
        known_micros=(known - _EPOCH) // _MICROSECOND,
        time=(event["event_time"] - _EPOCH) // _MICROSECOND,
        event_id=event["event_id"],
        item_id=event.get("item_id") or "",
        event_name=event["event_name"],
        quantity=float(np.float32(event.get("quantity") or 0.0)),
        amount=float(np.float32(event.get("amount") or 0.0)),
        order_key=event.get("order_id") or event.get("session_id") or "",
    )


class OnlinePush:
    """Appends collected events to every online store of the data in use, and advances the data's clock.

    The current and the previous store are both kept up to date, so that a service may read either during a release.
    """

    def __init__(self, settings: Settings, lake: Place) -> None:
        """Push to the stores in `settings`; a newly loaded one first gets events that are only in `lake`."""
        self._settings, self._lake, self._where = settings, lake, places(settings)
        self._errors: tuple[type[Exception], ...] = (StoreUnavailableError, *store_errors(settings))
        self._targets_path = settings.live_dir / "targets.json"
        self._targets: dict[str, str] | None = None  # as this process wrote them
        self._stores: dict[str, RowStore] = {}
        self._loads: dict[str, str] = {}
        self._state: StoreState | None = None

    def rewind(self) -> bool:
        """Open the stores, reopening them if they changed; return whether one is new and needs the whole log.

        Raises:
            StoreUnavailableError: nothing has been loaded yet, or a store cannot be reached.
        """
        name, self._state = in_use(self._settings), read_state(self._where)
        if name is None or self._state is None:
            raise StoreUnavailableError(f"{self._where.home}: must hold a loaded store; run `shoplens materialize`")
        if self._loads.get(name) == self._state.load:
            return False
        self.close()
        with self._reaching():
            new = self._open(self._state.lineage)
            if name not in self._stores:
                raise StoreUnavailableError(f"store {name} has lost its loaded rows; run `shoplens materialize`")
        for store, high_water in new.items() if is_lake(self._lake) else ():
            for day in known_since(self._lake, high_water):  # no longer in the log
                self._push(day.to_dicts(), [self._stores[store]])
        return bool(new)

    def _open(self, lineage: str) -> dict[str, datetime]:
        """Open all complete stores of a lineage; return the high-water marks of those without pushed events."""
        pushed, new = {}, {}
        with suppress(OSError, ValueError):
            pushed = dict(read_json(self._targets_path))
        for name in online_stores(self._settings):
            rows = open_rows(self._settings, name)
            try:
                state = rows.state()
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", None) not in DAMAGED:
                    raise
                # It must not stop the others; `rewind` raises if it is the one in use.
                _log.warning("push: store %s is damaged (%s) and is skipped; run `shoplens materialize`", name, error)
                state = None
            if state is None or state["lineage"] != lineage:
                rows.close()
                continue
            self._stores[name], self._loads[name] = rows, state["load"]
            if pushed.get(name) != state["load"]:
                new[name] = datetime.fromisoformat(state["high_water"])
        return new

    def follow(self, records: Sequence[Record]) -> None:
        """Push the records that are events of known users.

        Raises:
            StoreUnavailableError: a store cannot be reached; the same records must be pushed again.
        """
        if self._targets != self._loads:  # not in rewind(): the follower's position must be on disk first
            write_json(self._targets_path, self._loads)
            self._targets = dict(self._loads)
        self._push(events_of(records), self._stores.values())

    def close(self) -> None:
        """Close the stores."""
        for rows in self._stores.values():
            rows.close()
        self._stores, self._loads = {}, {}

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            self.close()
            raise StoreUnavailableError(f"online store: cannot be written: {error}") from error

    def _push(self, events: Sequence[Mapping[str, Any]], stores: Iterable[RowStore]) -> None:
        live = [live_event(event) for event in events if event.get("user_id") is not None]  # else user unknown
        with self._reaching():
            for rows in stores if live else ():
                rows.append(live)
        if events and self._state is not None:
            latest = max(max(event["event_time"], event["ingested_at"]) for event in events)
            write_live(self._where, self._state, latest + _MICROSECOND)
