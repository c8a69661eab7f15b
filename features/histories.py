"""Users' events as flat arrays that can be memory-mapped, and the history of a row as a slice of them.

A log on disk is a folder:

users.parquet     user_id, begin, end: where each user's events lie, sorted by user ID
NAME.npy          one column of all events, sorted by user, then event_time, then event_id

Training slices the log as of a given time, serving builds a log of one user from the lists in the online store. Both
order events alike, so they give the same histories.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import Catalogue
from features.recent import EVENT_CODES, EVENT_COLUMNS, RecentEvents, order_key
from shoplens.errors import FeatureError

_KINDS = {  # column -> its type in a file
    "item_index": "<i4",
    "event_code": "|i1",
    "event_time": "<M8[us]",
    "known_time": "<M8[us]",
    "quantity": "<f4",
    "amount": "<f4",
    "order": "<i4",
}
_USERS = "users.parquet"
_CHUNK = 1024  # rows per padded window, to bound memory at (chunk, n)


@dataclass(frozen=True)
class EventLog:
    """Events of all users as flat arrays, (events,); one user's events are adjacent and in order.

    Attributes:
        item_index: int32, index in the catalogue; 0 for no item, 1 for an unknown item.
        event_code: int8, position of the event name in `EVENT_NAMES` plus 1.
        event_time: datetime64[us], UTC.
        known_time: datetime64[us], UTC, the later of event time and ingestion time.
        quantity: float32, pieces; 0 for no quantity.
        amount: float32, amount of the line; 0 for no amount.
        order: int32, the same number for the events of one order (or session, if there is no order) of a user.
    """

    item_index: NDArray[np.int32]
    event_code: NDArray[np.int8]
    event_time: NDArray[np.datetime64]
    known_time: NDArray[np.datetime64]
    quantity: NDArray[np.float32]
    amount: NDArray[np.float32]
    order: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.item_index)

    def at(self, places: Any) -> "EventLog":
        """Return the events at `places`, (k,) integers or a slice."""
        return EventLog(**{name: np.asarray(getattr(self, name)[places]) for name in _KINDS})


def _columns(events: pl.DataFrame, catalogue: Catalogue, first_order: int = 0) -> EventLog:
    """Return the columns of a sorted frame of `EVENT_COLUMNS`; orders are numbered from `first_order`."""
    keyed = events.with_columns(order_key())
    known = pl.max_horizontal("event_time", "ingested_at").dt.epoch("us")
    values: dict[str, Any] = {
        "item_index": catalogue.index_of(keyed["item_id"]),
        "event_code": keyed["event_name"].cast(pl.String).replace_strict(EVENT_CODES, return_dtype=pl.Int8),
        "event_time": keyed["event_time"].dt.epoch("us"),
        "known_time": keyed.select(known).to_series(),
        "quantity": keyed["quantity"].cast(pl.Float32).fill_null(0.0),
        "amount": keyed["amount"].cast(pl.Float32).fill_null(0.0),
        "order": keyed["order_key"].rank("dense").cast(pl.Int32) + first_order,
    }
    return EventLog(**{name: np.asarray(values[name]).astype(kind) for name, kind in _KINDS.items()})


def _sorted(events: pl.DataFrame) -> pl.DataFrame:
    named = events.select(EVENT_COLUMNS).filter(pl.col("user_id").is_not_null())
    return named.with_columns(pl.col("user_id").cast(pl.String)).sort("user_id", "event_time", "event_id")


def _runs(users: pl.Series, first: int) -> pl.DataFrame:
    """Return (user_id, begin, end) of the runs of equal users, counted from `first`."""
    runs = pl.DataFrame({"user_id": users}).with_row_index("place")
    place = pl.col("place").cast(pl.Int64) + first
    return runs.group_by("user_id").agg(place.min().alias("begin"), place.max().add(1).alias("end")).sort("user_id")


@dataclass(frozen=True)
class UserLog:
    """A log with the place of each user's events.

    Attributes:
        users: user_id, begin and end, sorted by user ID.
        events: The events, in memory or memory-mapped.
    """

    users: pl.DataFrame
    events: EventLog

    @classmethod
    def from_events(cls, events: pl.DataFrame, catalogue: Catalogue) -> "UserLog":
        """Build a log in memory from events that fulfil the contract; events without a user are left out."""
        ordered = _sorted(events)
        return cls(_runs(ordered["user_id"], 0), _columns(ordered, catalogue))

    @classmethod
    def load(cls, folder: Path) -> "UserLog":
        """Open a log; its columns are memory-mapped, so only what is used is read.

        Raises:
            FeatureError: a file is missing or unreadable.
        """
        try:
            users = pl.read_parquet(folder / _USERS)
            columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if len(users) else None) for name in _KINDS}
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise FeatureError(f"event log {folder}: cannot be read ({error}). Run the stage `features`") from error
        return cls(users, EventLog(**columns))

    @classmethod
    def without_events(cls) -> "UserLog":
        """Return a log of nobody."""
        users = pl.DataFrame(schema={"user_id": pl.String, "begin": pl.Int64, "end": pl.Int64})
        return cls(users, Histories.none(0).log)

    def as_of(self, user_ids: Any, times: Any, n: int) -> "Histories":
        """Return the last `n` events of each user that were known just before each time.

        Args:
            user_ids: (rows,) strings; users without events have an empty history.
            times: (rows,) datetime64, UTC. An event is known at t when event_time < t and ingested_at < t.
            n: Maximum number of events per row.
        """
        asked, moments = np.asarray(user_ids, dtype=object), np.asarray(times, dtype="datetime64[us]")
        if asked.shape != moments.shape or asked.ndim != 1:
            raise FeatureError(f"user_ids and times: must both be (rows,); received {asked.shape} and {moments.shape}")
        if n < 1:
            raise FeatureError(f"n: must be at least 1; received {n}")
        begin, end = np.zeros(len(asked), dtype=np.int64), np.zeros(len(asked), dtype=np.int64)
        scattered: dict[int, NDArray[np.int64]] = {}  # row -> places, where a late event interrupts the slice
        rows = pl.DataFrame({"user_id": pl.Series(asked.tolist(), dtype=pl.String)}).with_row_index("row")
        asking = rows.group_by("user_id", maintain_order=True).agg("row").join(self.users, on="user_id")
        for _, found, first, last in asking.iter_rows():
            known = np.asarray(self.events.known_time[first:last])
            if np.all(known[1:] >= known[:-1]):
                end[found] = first + np.searchsorted(known, moments[found], side="left")
                begin[found] = np.maximum(end[found] - n, first)
                continue
            for row in found:
                places = first + np.flatnonzero(known < moments[row])[-n:]
                if len(places) and places[-1] - places[0] >= len(places):
                    scattered[row] = places
                elif len(places):
                    begin[row], end[row] = places[0], places[-1] + 1
        return Histories(self.events, begin, end)._with(scattered)


def write_log(pieces: Iterable[pl.DataFrame], count: int, catalogue: Catalogue, folder: Path) -> None:
    """Write a log to `folder`, one piece at a time.

    Args:
        pieces: Events of the contract; all events of a user are in one piece.
        count: Number of events with a user ID in all pieces.
        catalogue: Provides the item indexes.
        folder: The folder, which must not exist yet.
    """
    folder.mkdir()
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype=np.dtype(kind), shape=(count,))
        if count
        else np.zeros(0, dtype=kind)
        for name, kind in _KINDS.items()
    }
    users, done, orders = [_runs(pl.Series("user_id", [], dtype=pl.String), 0)], 0, 0
    for piece in pieces:
        ordered = _sorted(piece)
        columns = _columns(ordered, catalogue, orders)
        for name, target in files.items():
            target[done : done + len(columns)] = getattr(columns, name)
        users.append(_runs(ordered["user_id"], done))
        done += len(columns)
        orders = max(orders, int(columns.order.max(initial=0)))
    if done != count:
        raise FeatureError(f"event log {folder}: must have {count:,} events; the pieces have {done:,}")
    for name, target in files.items():
        if isinstance(target, np.memmap):
            target.flush()
        else:
            np.save(folder / f"{name}.npy", target)
    pl.concat(users).sort("user_id").write_parquet(folder / _USERS)


@dataclass(frozen=True)
class Histories:
    """The histories of rows: each is a slice of a shared log.

    Attributes:
        log: The events; also those of other rows, and those after a row's time.
        begin: First event of each row, int64 (rows,).
        end: One past the last event of each row, int64 (rows,).
    """

    log: EventLog
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def none(cls, rows: int) -> "Histories":
        """Return histories without events."""
        places = np.zeros(rows, dtype=np.int64)
        return cls(EventLog(**{name: np.zeros(0, dtype=kind) for name, kind in _KINDS.items()}), places, places)

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of events of each row, (rows,)."""
        return self.end - self.begin

    def take(self, idx: Any) -> "Histories":
        """Return the rows selected by `idx`: integers, booleans or a slice."""
        return Histories(self.log, self.begin[idx], self.end[idx])

    def last(self, n: int) -> "Histories":
        """Return only the last `n` events of every row."""
        return Histories(self.log, np.maximum(self.begin, self.end - n), self.end)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (row, place) of every event of every row, in order, each (events,)."""
        lengths = self.lengths
        row = np.repeat(np.arange(len(self)), lengths)
        start = np.cumsum(lengths) - lengths
        return row, np.arange(len(row)) - start[row] + self.begin[row]

    def window(self, n: int) -> RecentEvents:
        """Return the last `n` events of every row as (rows, n) arrays, padded on the left."""
        if n < 1:
            raise FeatureError(f"n: must be at least 1; received {n}")
        places = self.end[:, None] + np.arange(-n, 0)
        valid = places >= self.begin[:, None]
        log = self.log if len(self.log) else _NO_EVENT
        at = log.at(np.where(valid, places, 0))
        change = np.zeros(places.shape, dtype=np.int32)
        change[:, :-1] = at.order[:, 1:] != at.order[:, :-1]
        # Number the runs of equal orders backwards from the last column, starting at 1.
        codes = np.cumsum(change[:, ::-1], axis=1, dtype=np.int32)[:, ::-1] + 1
        return RecentEvents(
            item_index=np.where(valid, at.item_index, np.int32(0)),
            event_code=np.where(valid, at.event_code, np.int8(0)),
            event_time=np.where(valid, at.event_time, np.datetime64("NaT", "us")),
            quantity=np.where(valid, at.quantity, np.float32(0)),
            amount=np.where(valid, at.amount, np.float32(0)),
            order_code=np.where(valid, codes, np.int32(0)),
        )

    def windows(self, n: int) -> Iterator[tuple[slice, RecentEvents]]:
        """Yield slices of rows with their windows of at most `n` events, which bounds memory."""
        for start in range(0, max(len(self), 1), _CHUNK):
            rows = slice(start, start + _CHUNK)
            part = self.take(rows)
            yield rows, part.window(max(1, min(n, int(part.lengths.max(initial=0)))))

    def compact(self) -> "Histories":
        """Return the same histories on a log that holds only the events they use."""
        used = self.take(self.lengths > 0)
        order = np.argsort(used.begin, kind="stable")
        first, last = used.begin[order], np.maximum.accumulate(used.end[order]) if len(used) else used.end
        new = np.append(True, first[1:] > last[:-1])[: len(first)]  # where a run of overlapping slices begins
        starts, ends = first[new], last[np.append(np.flatnonzero(new)[1:] - 1, len(last) - 1)] if len(last) else last
        runs = Histories(self.log, starts, ends)
        offset = np.cumsum(runs.lengths) - runs.lengths
        run = np.maximum(np.searchsorted(starts, self.begin, side="right") - 1, 0)
        move = np.where(self.lengths > 0, offset[run] - starts[run], -self.begin) if len(starts) else -self.begin
        return Histories(self.log.at(runs.flat()[1]), self.begin + move, self.end + move)

    def _with(self, scattered: dict[int, NDArray[np.int64]]) -> "Histories":
        """Replace the histories of some rows by events at arbitrary places, copied to the end of the log."""
        if not scattered:
            return self
        kept = self.compact()
        extra = self.log.at(np.concatenate(list(scattered.values())))
        log = EventLog(**{n: np.concatenate([getattr(kept.log, n), getattr(extra, n)]) for n in _KINDS})
        begin, end = kept.begin.copy(), kept.end.copy()
        place = len(kept.log)
        for row, places in scattered.items():
            begin[row], end[row] = place, place + len(places)
            place += len(places)
        return Histories(log, begin, end)

    def write(self, path: Path) -> None:
        """Write the log as Parquet; the caller keeps `begin` and `end`."""
        pl.DataFrame({name: getattr(self.log, name) for name in _KINDS}).write_parquet(path)

    @classmethod
    def read(cls, path: Path, begin: NDArray[np.int64], end: NDArray[np.int64]) -> "Histories":
        """Read what `write` wrote."""
        frame = pl.read_parquet(path)
        return cls(EventLog(**{name: frame[name].to_numpy().astype(kind) for name, kind in _KINDS.items()}), begin, end)


_NO_EVENT = EventLog(**{name: np.zeros(1, dtype=kind) for name, kind in _KINDS.items()})


def history_of_lists(
    item_ids: Sequence[str],
    event_names: Sequence[str],
    event_times: Sequence[int],
    quantities: Sequence[float],
    amounts: Sequence[float],
    order_keys: Sequence[str],
    n: int,
    catalogue: Catalogue,
) -> Histories:
    """Return one row of at most `n` events from the online store's lists: as in `recent_lists`, oldest first."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(order_keys))}
    times = np.asarray(event_times, dtype="<i8").astype("<M8[us]")
    values: dict[str, Any] = {
        "item_index": catalogue.index_of(item_ids),
        "event_code": [EVENT_CODES[name] for name in event_names],
        "event_time": times,
        "known_time": times,  # when it became known no longer matters: everything stored is known
        "quantity": quantities,
        "amount": amounts,
        "order": [numbers[key] for key in order_keys],
    }
    log = EventLog(**{name: np.asarray(values[name], dtype=kind) for name, kind in _KINDS.items()})
    return Histories(log, np.array([max(0, len(log) - n)]), np.array([len(log)]))


def recent_as_of(events: pl.DataFrame, user_ids: Any, times: Any, n: int, catalogue: Catalogue) -> RecentEvents:
    """Return the windows of the last `n` events of a log in memory; see `UserLog.as_of`."""
    return UserLog.from_events(events, catalogue).as_of(user_ids, times, n).window(n)
