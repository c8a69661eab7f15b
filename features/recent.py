"""The last N events of a user as arrays, the input of fast features and sequence models.

Training builds them from the frozen events as of a given time, serving from the lists in the online store. Both use the
same ordering (event_time, then event_id) and the same numbering of orders, so they give the same `RecentEvents`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from events.contract import EVENT_NAMES
from features.catalogue import Catalogue
from shoplens.errors import FeatureError

EVENT_CODES = {name: code for code, name in enumerate(EVENT_NAMES, start=1)}  # 0 is padding
EVENT_COLUMNS = (  # used by recent events
    *("user_id", "event_id", "event_time", "ingested_at", "event_name"),
    *("item_id", "quantity", "amount", "order_id", "session_id"),
)
_CHUNK = 8192  # keys per pass, to bound the memory of (rows, n) index arrays


@dataclass(frozen=True)
class RecentEvents:
    """Recent events as (rows, n) arrays, left-padded so that the last column holds each row's latest event.

    Attributes:
        item_index: int32, index in the catalogue; 0 for padding or no item, 1 for an unknown item.
        event_code: int8, position of the event name in `EVENT_NAMES` plus 1; 0 for padding.
        event_time: datetime64[us], UTC; NaT for padding.
        quantity: float32, pieces; 0 for padding or no quantity.
        amount: float32, amount of the line in the event's currency; 0 for padding or no amount.
        order_code: int32, number of the order (or session, if there is no order), counted back from the latest, which
            is 1; 0 for padding. Truncating older events does not change it.
    """

    item_index: NDArray[np.int32]
    event_code: NDArray[np.int8]
    event_time: NDArray[np.datetime64]
    quantity: NDArray[np.float32]
    amount: NDArray[np.float32]
    order_code: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.item_index)

    @property
    def n(self) -> int:
        """Events per row, including padding."""
        return int(self.item_index.shape[1])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, n) mask: True for events, False for padding."""
        return self.event_code > 0

    def _map(self, rows: Any, columns: Any) -> "RecentEvents":
        names = self.__dataclass_fields__
        return RecentEvents(**{name: getattr(self, name)[rows][:, columns] for name in names})

    def take(self, idx: Any) -> "RecentEvents":
        """Return the rows that `idx` (integers, booleans or a slice) selects."""
        return self._map(idx, slice(None))

    def tail(self, n: int) -> "RecentEvents":
        """Return only the last `n` events of every row."""
        if not 1 <= n <= self.n:
            raise FeatureError(f"n: must be from 1 to {self.n}, the events kept; received {n}")
        return self._map(slice(None), slice(self.n - n, None))

    def resize(self, n: int) -> "RecentEvents":
        """Return the last `n` events of every row, left-padded if fewer are kept."""
        if n <= self.n:
            return self.tail(n)
        pads = {"event_time": np.datetime64("NaT", "us")}
        return RecentEvents(
            **{
                name: np.pad(getattr(self, name), ((0, 0), (n - self.n, 0)), constant_values=pads.get(name, 0))
                for name in self.__dataclass_fields__
            }
        )


def order_key() -> pl.Expr:
    """The key that groups events: the order, else the session, else an empty string."""
    return pl.coalesce("order_id", "session_id", pl.lit("")).alias("order_key")


def recent_lists(events: pl.DataFrame, n: int, high_water: datetime) -> pl.DataFrame:
    """Return one row per user: event_timestamp (of the last event) and lists of the last `n` events, oldest first.

    Only events received before `high_water` are included: training knows no more at that time.
    """
    columns = {
        "recent_event_ids": pl.col("event_id"),
        "recent_item_ids": pl.col("item_id").fill_null(""),
        "recent_event_names": pl.col("event_name").cast(pl.String),
        "recent_event_times": pl.col("event_time").dt.epoch("us"),
        "recent_quantities": pl.col("quantity").cast(pl.Float32).fill_null(0.0),
        "recent_amounts": pl.col("amount").cast(pl.Float32).fill_null(0.0),
        "recent_order_keys": order_key(),
    }
    return (
        events.filter(pl.col("user_id").is_not_null() & (pl.max_horizontal("event_time", "ingested_at") < high_water))
        .select("user_id", "event_time", **columns)
        .sort("user_id", "event_time", "recent_event_ids")
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("event_time").last().alias("event_timestamp"), pl.col(*columns).tail(n))
    )


@dataclass(frozen=True)
class _Log:
    """Flat arrays of events, sorted by (event_time, event_id) per user; the last element of each array is padding."""

    item_index: NDArray[np.int32]
    event_code: NDArray[np.int8]
    event_time: NDArray[np.datetime64]
    quantity: NDArray[np.float32]
    amount: NDArray[np.float32]
    order: NDArray[np.int32]  # numbers the orders

    def gather(self, places: NDArray[np.int64]) -> RecentEvents:
        """Return the events at `places` (rows, n), where -1 is padding."""
        order, change = self.order[places], np.zeros(places.shape, dtype=np.int32)
        change[:, :-1] = order[:, 1:] != order[:, :-1]
        # Number the runs of equal orders backwards from the last column, starting at 1.
        codes = np.cumsum(change[:, ::-1], axis=1, dtype=np.int32)[:, ::-1] + 1
        return RecentEvents(
            item_index=self.item_index[places],
            event_code=self.event_code[places],
            event_time=self.event_time[places],
            quantity=self.quantity[places],
            amount=self.amount[places],
            order_code=np.where(places >= 0, codes, 0).astype(np.int32),
        )


def _padded(values: Any, kind: Any, pad: Any = 0) -> NDArray[Any]:
    return np.append(np.asarray(values, dtype=kind), np.array(pad, dtype=kind))


def _places(known: NDArray[np.datetime64], times: NDArray[np.datetime64], n: int) -> NDArray[np.int64]:
    """Return (len(times), n) positions of a user's last `n` events known before each time; -1 is padding."""
    if np.all(known[1:] >= known[:-1]):
        places: NDArray[np.int64] = np.searchsorted(known, times, side="left")[:, None] + np.arange(-n, 0)
        return places.clip(-1)
    result = np.full((len(times), n), -1, dtype=np.int64)  # a late event, which lies in the middle of the run
    for row, time in enumerate(times):
        chosen = np.flatnonzero(known < time)[-n:]
        result[row, n - len(chosen) :] = chosen
    return result


def recent_as_of(events: pl.DataFrame, user_ids: Any, times: Any, n: int, catalogue: Catalogue) -> RecentEvents:
    """Return the last `n` events of each user that were known just before each time.

    Args:
        events: Events that fulfil the contract.
        user_ids: (rows,) strings; users without events get a row of padding.
        times: (rows,) datetime64, UTC. An event is known at t when event_time < t and ingested_at < t.
        n: Events per row.
        catalogue: Provides the item indexes.
    """
    users = np.asarray(user_ids, dtype=object)
    moments = np.asarray(times, dtype="datetime64[us]")
    if users.shape != moments.shape or users.ndim != 1:
        raise FeatureError(f"user_ids and times: must both be (rows,); received {users.shape} and {moments.shape}")
    if n < 1:
        raise FeatureError(f"n: must be at least 1; received {n}")
    rows = pl.DataFrame({"user_id": pl.Series(users.tolist(), dtype=pl.String)}).with_row_index("row")
    log = (
        events.select(EVENT_COLUMNS)
        .with_columns(pl.col("user_id", "event_name").cast(pl.String))
        .join(rows, on="user_id", how="semi")
        .sort("user_id", "event_time", "event_id")
        .with_columns(order_key())
    )
    known = log.select(pl.max_horizontal("event_time", "ingested_at").dt.epoch("us"))
    known_at = known.to_series().to_numpy().astype("datetime64[us]")
    runs = log.with_row_index("begin").group_by("user_id").agg(pl.col("begin").min(), pl.len().alias("count"))
    places = np.full((len(users), n), -1, dtype=np.int64)
    asked = rows.group_by("user_id").agg("row").join(runs, on="user_id")
    for _, asking, begin, count in asked.iter_rows():
        found = _places(known_at[begin : begin + count], moments[asking], n)
        places[asking] = np.where(found >= 0, begin + found, -1)
    flat = _Log(
        item_index=_padded(catalogue.index_of(log["item_id"]), np.int32),
        event_code=_padded(log["event_name"].replace_strict(EVENT_CODES, return_dtype=pl.Int8), np.int8),
        event_time=_padded(log["event_time"].dt.epoch("us"), "datetime64[us]", "NaT"),
        quantity=_padded(log["quantity"].cast(pl.Float32).fill_null(0.0), np.float32),
        amount=_padded(log["amount"].cast(pl.Float32).fill_null(0.0), np.float32),
        order=_padded(log["order_key"].rank("dense"), np.int32),
    )
    parts = [flat.gather(places[begin : begin + _CHUNK]) for begin in range(0, max(len(users), 1), _CHUNK)]
    return RecentEvents(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in RecentEvents.__dataclass_fields__}
    )


def recent_from_arrays(
    item_ids: Sequence[str],
    event_names: Sequence[str],
    event_times: Sequence[int],
    quantities: Sequence[float],
    amounts: Sequence[float],
    order_keys: Sequence[str],
    n: int,
    catalogue: Catalogue,
) -> RecentEvents:
    """Build one row of `n` events from the online store's lists, which are as in `recent_lists`, oldest first."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(order_keys))}
    log = _Log(
        item_index=_padded(catalogue.index_of(item_ids), np.int32),
        event_code=_padded([EVENT_CODES[name] for name in event_names], np.int8),
        event_time=_padded(np.asarray(event_times, dtype=np.int64), "datetime64[us]", "NaT"),
        quantity=_padded(quantities, np.float32),
        amount=_padded(amounts, np.float32),
        order=_padded([numbers[key] for key in order_keys], np.int32),
    )
    return log.gather(np.maximum(np.arange(len(event_times) - n, len(event_times)), -1)[None, :])
