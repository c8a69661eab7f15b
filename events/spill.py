"""Tables that do not fit into memory, as Parquet files of a folder of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame that keeps no other rows alive: a few texts out of many else hold the memory of all of them."""
    copied = pl.from_arrow(frame.to_arrow())
    if not isinstance(copied, pl.DataFrame):
        raise TypeError(f"a table must become a frame; received {type(copied).__name__}")
    return copied


def scan(files: list[Path]) -> pl.LazyFrame:
    """Return the rows of Parquet files, in the order of the files."""
    return pl.scan_parquet(files, glob=False, hive_partitioning=False)


def buckets(table: pl.LazyFrame, key: str, count: int, folder: Path) -> Iterator[pl.DataFrame]:
    """Yield a table in `count` parts, in no order; rows of one key are in one part.

    Args:
        table: The table.
        key: A column of text.
        count: How many parts; one is not written.
        folder: Where to write, for as long as it takes.
    """
    if count <= 1:
        yield table.collect()
        return
    parts = table.with_columns((pl.col(key).hash(seed=0) % count).alias("_bucket"))
    place = pl.PartitionBy(folder, key="_bucket", include_key=False)
    parts.sink_parquet(place, compression="lz4", maintain_order=False, mkdir=True)
    for part in sorted(folder.iterdir()):
        yield pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in sorted(part.iterdir())])
        shutil.rmtree(part)


class Runs:
    """Rows as they come, kept as Parquet files of at most so many rows, each sorted by event_time."""

    def __init__(self, folder: Path, schema: dict[str, Any], rows: int, size: int) -> None:
        """Start with none.

        Args:
            folder: An existing folder.
            schema: Of the rows; columns that a frame lacks are empty.
            rows: Of a file, at most about so many.
            size: Bytes in memory of a file's rows, at most about so many.
        """
        self._folder, self._schema, self._rows, self._size = folder, schema, rows, size
        self._waiting: list[pl.DataFrame] = []
        self._bytes = 0
        self.files: list[Path] = []
        self.spans: list[tuple[Any, Any]] = []  # first and last event_time of every file
        self.rows = self.bytes = 0
        self.samples: list[pl.DataFrame] = []
        self.without_session = False

    def add(self, frame: pl.DataFrame) -> None:
        """Keep some rows."""
        absent = {name: kind for name, kind in self._schema.items() if name not in frame.columns}
        full = frame.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in absent.items())
        self._waiting.append(full.select(list(self._schema)))
        self._bytes += int(frame.estimated_size())
        if sum(part.height for part in self._waiting) >= self._rows or self._bytes >= self._size:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        run = pl.concat(self._waiting) if self._waiting else pl.DataFrame()
        self.bytes += self._bytes
        self._waiting, self._bytes = [], 0
        if run.is_empty():
            return
        if not run["event_time"].is_sorted():
            run = run.sort("event_time", maintain_order=True)
        self.files.append(self._folder / f"run-{len(self.files):06}.parquet")
        # Small row groups: what is read later is the part of a time.
        run.write_parquet(self.files[-1], compression="lz4", row_group_size=max(1, self._rows // 8))
        self.spans.append((run["event_time"][0], run["event_time"][-1]))
        self.samples.append(compact(run.select("event_time", "event_id").gather_every(max(1, self._rows // 256))))
        self.without_session |= run["session_id"].null_count() > 0
        self.rows += run.height
