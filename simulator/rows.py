"""The log in two forms: ROWS, numbers that are cheap to sort and hold, and LOG, the text that a shop would write.

IDs never repeat and reveal nothing: user, day, visit and place in it, packed into 64 bits and scrambled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from simulator.draws import Keys, mix, word

ACTIONS = (
    "promo_shown", "promo_click", "page", "search", "click", "product", "basket_add", "basket_remove",
    "checkout", "order", "return", "review",
)  # fmt: skip
PLATFORMS = ("web", "ios", "android", "store")
STORE = 3
CODE = {name: place for place, name in enumerate(ACTIONS)}

_BOTH: dict[str, Any] = {  # columns that are the same in both forms
    "search_text": pl.String,
    "shown": pl.String,
    "list": pl.String,
    "rank": pl.Int32,
    "page": pl.String,
    "seconds": pl.Float64,
    "stars": pl.Int64,
    "comment": pl.String,
    "promo": pl.String,
}
ROWS: dict[str, Any] = {
    "id": pl.UInt64,
    "ts": pl.Int64,  # milliseconds since 1970
    "delay": pl.Int64,  # milliseconds until the shop's server has it
    "action": pl.UInt8,  # place in ACTIONS
    "user": pl.Int64,  # null before login, and of bots
    "visitor": pl.UInt64,  # the device; null in a store
    "platform": pl.UInt8,  # place in PLATFORMS
    "visit": pl.UInt64,  # null in a store
    "item": pl.Int64,
    "qty": pl.Int64,
    "price": pl.Float64,
    "order_no": pl.UInt64,
    **_BOTH,
}
SORTED_BY = ("ts", "id")  # of rows in the log; ids are unique, so that ties have one order too
LOG: dict[str, Any] = {
    "id": pl.String,
    "ts": pl.String,  # UTC
    "received_at": pl.String,
    "action": pl.String,
    "customer": pl.String,
    "visitor": pl.String,
    "channel": pl.String,
    "visit": pl.String,
    "sku": pl.String,
    "qty": pl.Int64,
    "unit_price": pl.String,  # EUR
    "order_no": pl.String,
    **_BOTH,
}
_PLACE, _VISIT, _DAY = 12, 6, 14  # bits; 32 are left for the user
AFTER = 1 << 11  # places of what comes days after the visit
ORDER, VISIT = (1 << _PLACE) - 1, (1 << _PLACE) - 2
_GROUP_ROWS = 1 << 17
MOST_VISITS = (1 << _VISIT) - 1  # of one user on one day


def unique_ids(seed: int, user: npt.ArrayLike, day: int, visit: npt.ArrayLike, place: npt.ArrayLike) -> Keys:
    """Return one ID per element; no two of one simulation are the same, because every step is one to one."""
    packed = np.asarray(user).astype(np.uint64) << np.uint64(_PLACE + _VISIT + _DAY)
    packed = packed | np.uint64(day << (_PLACE + _VISIT))
    packed = packed | (np.asarray(visit).astype(np.uint64) << np.uint64(_PLACE))
    return mix((packed | np.asarray(place).astype(np.uint64)) ^ word(seed, "id"))


def _clock(milliseconds: pl.Expr) -> pl.Expr:
    return milliseconds.cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S%.3f")


def as_log(rows: pl.DataFrame, skus: pl.Series) -> pl.DataFrame:
    """Return LOG of ROWS, in their order; `skus` are the IDs of the articles."""
    action, platform = pl.Series(ACTIONS).gather(rows["action"]), pl.Series(PLATFORMS).gather(rows["platform"])
    return rows.select(
        pl.col("id").cast(pl.String),
        _clock(pl.col("ts")).alias("ts"),
        _clock(pl.col("ts") + pl.col("delay")).alias("received_at"),
        pl.lit(action).alias("action"),
        ("u" + pl.col("user").cast(pl.String)).alias("customer"),
        ("d" + pl.col("visitor").cast(pl.String)).alias("visitor"),
        pl.lit(platform).alias("channel"),
        pl.col("visit").cast(pl.String),
        pl.lit(skus.gather(rows["item"])).alias("sku"),
        "qty",
        pl.col("price").cast(pl.String).alias("unit_price"),
        pl.col("order_no").cast(pl.String),
        *_BOTH,
    )


class GrowingFile:
    """A Parquet file that grows in row groups of one size, whatever the size of the frames that are added."""

    def __init__(self, path: Path, schema: dict[str, Any]) -> None:
        self._schema, self._held = pl.Schema(schema), pl.DataFrame(schema=schema)
        self._writer = pq.ParquetWriter(path, self._held.to_arrow().schema, compression="zstd")
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows; columns are ordered and cast as in the schema."""
        self._held = pl.concat([self._held, frame.select(list(self._schema)).cast(self._schema)])
        self.rows += frame.height
        while self._held.height >= _GROUP_ROWS:
            self._write(_GROUP_ROWS)

    def close(self) -> None:
        """Write what is held, and end the file."""
        if self._held.height:
            self._write(self._held.height)
        self._writer.close()

    def _write(self, rows: int) -> None:
        self._writer.write_table(self._held.head(rows).to_arrow(), row_group_size=rows)
        self._held = self._held.slice(rows)
