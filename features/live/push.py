"""The follower of the collector's log that appends live events to the online stores."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from events.collector.log import Record
from events.collector.records import record_frames
from events.lake import Place, is_lake, known_since
from features.online_stores.rows import LiveEvent, RowStore
from features.store import StoreState, in_use, online_stores, open_rows, places, read_state, store_errors, write_live
from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings


def live_events(events: pl.DataFrame) -> list[LiveEvent]:
    """Return the events of known users (EVENT_SCHEMA) as the online stores keep them."""
    known = events.filter(pl.col("user_id").is_not_null()).select(
        "user_id",
        pl.max_horizontal("event_time", "ingested_at").dt.epoch("us").alias("known_micros"),
        pl.col("event_time").dt.epoch("us").alias("time"),
        "event_id",
        pl.col("item_id").fill_null(""),
        "event_name",
        pl.col("quantity", "amount").fill_null(0.0).cast(pl.Float32).cast(pl.Float64),
        pl.coalesce("order_id", "session_id", pl.lit("")).alias("order_key"),
    )
    return [LiveEvent(*row) for row in known.select(LiveEvent._fields).iter_rows()]


class OnlinePush:
    """Appends collected events to every online store of the data in use, and advances the data's clock.

    The store in use and the one before are both kept current, so that a service may read either during a release.
    """

    def __init__(self, settings: Settings, lake: Place) -> None:
        """Push into the online stores of the settings; one that was loaded since gets what left the log for `lake`."""
        self._settings, self._lake, self._where = settings, lake, places(settings)
        self._errors: tuple[type[Exception], ...] = (StoreUnavailableError, *store_errors(settings))
        self._targets_path = settings.live_dir / "targets.json"
        self._stores: dict[str, RowStore] = {}
        self._loads: dict[str, str] = {}
        self._state: StoreState | None = None

    def rewind(self) -> bool:
        """Open the stores, again if they are others than before; return whether one is new: it needs the whole log.

        Raises:
            StoreUnavailableError: nothing was loaded yet, or a store cannot be reached.
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
                raise StoreUnavailableError(f"store {name} has lost what was loaded; run `shoplens materialize`")
        for store, high_water in new.items() if is_lake(self._lake) else ():
            for day in known_since(self._lake, high_water):  # they have left the log
                self._push(day, [self._stores[store]])
        write_json(self._targets_path, self._loads)
        return bool(new)

    def _open(self, lineage: str) -> dict[str, datetime]:
        """Open all complete stores of a lineage; return the ends of the data of those that nothing was pushed into."""
        pushed, new = {}, {}
        with suppress(OSError, ValueError):
            pushed = dict(read_json(self._targets_path))
        for name in online_stores(self._settings):
            rows = open_rows(self._settings, name)
            state = rows.state()
            if state is None or state["lineage"] != lineage:
                rows.close()
                continue
            self._stores[name], self._loads[name] = rows, state["load"]
            if pushed.get(name) != state["load"]:
                new[name] = datetime.fromisoformat(state["high_water"])
        return new

    def follow(self, records: Sequence[Record]) -> None:
        """Push the events of known users among records.

        Raises:
            StoreUnavailableError: a store cannot be reached; the same records are to be pushed again.
        """
        self._push(record_frames(records)[0], self._stores.values())

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

    def _push(self, events: pl.DataFrame, stores: Iterable[RowStore]) -> None:
        live = live_events(events)
        with self._reaching():
            for rows in stores if live else ():
                rows.append(live)
        if self._state is not None and not events.is_empty():
            latest: Any = events.select(pl.max_horizontal("event_time", "ingested_at").max()).item()
            write_live(self._where, self._state, latest + timedelta(microseconds=1))
