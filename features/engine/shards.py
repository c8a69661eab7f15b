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


def _split(connection: Any, events: Path, key: str, rows: int, folder: Path) -> list[Path]:
    """Cut the events that have a `key` into pieces of about `rows` events below `folder`.

    Args:
        connection: DuckDB's own.
        events: `events.parquet`.
        key: user_id or item_id.
        rows: Events per piece; a key with more events than that makes its piece larger.
        folder: Does not exist yet.
    """
    if row_count(events) <= rows:
        return [events]
    source = connection.read_parquet(str(events))
    there = [name for name in READ if name in source.columns]
    counts = source.filter(f"{key} IS NOT NULL").aggregate(f"{key}, count(*) AS events", key).pl()
    before = pl.col("events").cum_sum() - pl.col("events")
    connection.register("pieces", counts.sort(key).select(key, piece=(before // rows).cast(pl.Int32)))
    connection.execute(f"SET partitioned_write_flush_threshold = {_FLUSH_ROWS}")
    cut = source.join(connection.table("pieces"), key).project(", ".join([*there, "piece"]))
    cut.write_parquet(str(folder), partition_by=["piece"], compression="lz4")
    connection.unregister("pieces")
    return sorted(folder.glob("piece=*"), key=lambda path: int(path.name.removeprefix("piece=")))


@dataclass
class SplitLog:
    """Events, and their pieces by key as they are asked for: cut once, kept below `folder`."""

    connection: Any
    events: Path
    folder: Path

    def __post_init__(self) -> None:
        self._cut: dict[tuple[str, int], list[Path]] = {}

    def by(self, key: str, rows: int) -> list[Path]:
        """Return the pieces, of about `rows` events each, that together hold all events with a `key`."""
        if (key, rows) not in self._cut:
            target = self.folder / f"{key}-{rows}"
            self._cut[key, rows] = _split(self.connection, self.events, key, rows, target)
        return self._cut[key, rows]
