"""The last N events of a user: as lists, which the online store keeps, and as padded arrays, which models read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from events.contract import EVENT_NAMES
from shoplens.errors import FeatureError

EVENT_CODES = {name: code for code, name in enumerate(EVENT_NAMES, start=1)}  # 0 is padding
# The item goes back: an event of these is no sign of interest, and a purchase and its refund are not two.
TAKEN_BACK_NAMES = ("refund", "remove_from_cart")
TAKEN_BACK = tuple(EVENT_CODES[name] for name in TAKEN_BACK_NAMES)
EVENT_COLUMNS = (  # used by recent events
    *("user_id", "event_id", "event_time", "ingested_at", "event_name"),
    *("item_id", "quantity", "amount", "order_id", "session_id"),
)


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
