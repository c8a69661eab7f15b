"""A log in pieces, each with all events of some keys, so that memory is bounded by a piece and not by the log.

A piece is a range of the sorted keys, cut so that every piece has about as many events: pieces in order are keys in
order.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from features.engine.log import READ

_FLUSH_ROWS = 1 << 16  # rows of a piece that a thread holds before it writes them


def row_count(events: Path) -> int:
    """Return the number of events in a file."""
    rows: int = pq.read_metadata(events).num_rows
    return rows


@dataclass
class SplitLog:
    """Events, and their pieces by key as they are asked for: cut once, kept below `folder`."""

    connection: Any  # DuckDB's own
    events: Path
    folder: Path

    def by(self, key: str, rows: int) -> list[Path]:
        """Return the pieces, of about `rows` events each, that together hold all events with a `key`.

        A key with more events than that makes its piece larger; a log with fewer is one piece, the file itself.
        """
        if row_count(self.events) <= rows:
            return [self.events]
        target = self.folder / f"{key}-{rows}"
        if not target.exists():
            source = self.connection.read_parquet(str(self.events))
            there = [name for name in READ if name in source.columns]
            counts = source.filter(f"{key} IS NOT NULL").aggregate(f"{key}, count(*) AS events", key).pl()
            before = pl.col("events").cum_sum() - pl.col("events")
            self.connection.register("pieces", counts.sort(key).select(key, piece=(before // rows).cast(pl.Int32)))
            self.connection.execute(f"SET partitioned_write_flush_threshold = {_FLUSH_ROWS}")
            cut = source.join(self.connection.table("pieces"), key).project(", ".join([*there, "piece"]))
            cut.write_parquet(str(target), partition_by=["piece"], compression="lz4")
            self.connection.unregister("pieces")
        return sorted(target.glob("piece=*"), key=lambda path: int(path.name.removeprefix("piece=")))
