"""The log as the shop writes it: whatever a person or a tracker could get wrong is text. And its Parquet file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from simulator.catalogue import Assortment
from simulator.people import PLATFORMS
from simulator.rows import ACTIONS

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
_AS_IT_IS = ("search_text", "shown", "list", "rank", "page", "seconds", "stars", "comment", "promo")
_CLOCK = "%Y-%m-%d %H:%M:%S%.3f"


def clock(milliseconds: pl.Expr) -> pl.Expr:
    """Return milliseconds since 1970 as the log writes a time."""
    return milliseconds.cast(pl.Datetime("ms")).dt.strftime(_CLOCK)


def as_log(rows: pl.DataFrame, catalogue: Assortment) -> pl.DataFrame:
    """Return LOG of ROWS, in their order."""
    action, platform = pl.Series(ACTIONS).gather(rows["action"]), pl.Series(PLATFORMS).gather(rows["platform"])
    return rows.select(
        pl.col("id").cast(pl.String),
        clock(pl.col("ts")).alias("ts"),
        clock(pl.col("ts") + pl.col("delay")).alias("received_at"),
        pl.lit(action).alias("action"),
        ("u" + pl.col("user").cast(pl.String)).alias("customer"),
        ("d" + pl.col("visitor").cast(pl.String)).alias("visitor"),
        pl.lit(platform).alias("channel"),
        pl.col("visit").cast(pl.String),
        pl.lit(catalogue.skus.gather(rows["item"])).alias("sku"),
        "qty",
        pl.col("price").cast(pl.String).alias("unit_price"),
        pl.col("order_no").cast(pl.String),
        *_AS_IT_IS,
    )


GROUP_ROWS = 1 << 17


class Parts:
    """One growing file of a fixed schema."""

    def __init__(self, path: Path, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._held = pl.DataFrame(schema=schema)
        self._writer = pq.ParquetWriter(path, self._held.to_arrow().schema, compression="zstd")
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows; columns are cast to the schema's types."""
        typed = frame.select(pl.col(name).cast(kind) for name, kind in self._schema.items())
        self._held = pl.concat([self._held, typed])
        self.rows += frame.height
        while self._held.height >= GROUP_ROWS:
            self._write(GROUP_ROWS)

    def _write(self, rows: int) -> None:
        head, self._held = self._held.head(rows), self._held.slice(rows)
        self._writer.write_table(head.to_arrow(), row_group_size=rows)

    def close(self) -> None:
        """Write what is held, and end the file."""
        if self._held.height:
            self._write(self._held.height)
        self._writer.close()


@contextmanager
def parts(path: Path, schema: dict[str, Any]) -> Iterator[Parts]:
    """Yield a new file; it ends with the block."""
    file = Parts(path, schema)
    try:
        yield file
    finally:
        file.close()
