"""Write Parquet files incrementally."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import polars as pl
import pyarrow.parquet as pq

ROW_GROUP = 1 << 17  # rows
# Dictionary encoding of nearly unique values costs time and space.
_DISTINCT = ("event_id", "event_time", "ingested_at", "raw")


class GroupedWriter:
    """Writes frames of one schema in row groups of a fixed size, so the bytes do not depend on the frames' sizes.

    Attributes:
        rows: Number of rows added.
    """

    def __init__(self, place: Any, schema: Mapping[str, Any], group: int = ROW_GROUP) -> None:
        """Open a file for writing.

        Args:
            place: A path or a binary stream.
            schema: Polars types by column name.
            group: Rows per row group.
        """
        self._schema, self._group, self.rows = schema, group, 0
        self._waiting = pl.DataFrame(schema=schema)
        arrow = self._arrow(self._waiting).schema
        repeating = [name for name in arrow.names if name not in _DISTINCT]
        self._pool = ThreadPoolExecutor(1)  # compresses and writes while the caller prepares the next rows
        self._writing: Future[None] | None = None
        self._writer = pq.ParquetWriter(place, arrow, compression="zstd", use_dictionary=repeating)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self.close()
            return
        self._waiting = self._waiting.clear()
        with suppress(Exception):  # the caller's error is the one to see
            self.close()

    @staticmethod
    def _arrow(frame: pl.DataFrame) -> Any:
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest())

    def add(self, frame: pl.DataFrame) -> None:
        """Add the rows of a frame that has the columns of the schema."""
        self.rows += frame.height
        self._waiting = pl.concat([self._waiting, frame.select(list(self._schema))])
        while self._waiting.height >= self._group:
            self._write(self._waiting.head(self._group))
            self._waiting = self._waiting.slice(self._group)

    def _write(self, group: pl.DataFrame) -> None:
        """Start writing a row group after waiting for the previous one."""
        self._written()
        table = self._arrow(group.rechunk())
        self._writing = self._pool.submit(self._writer.write_table, table, row_group_size=self._group)

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> None:
        """Write the remaining rows and close the file."""
        try:
            if self._waiting.height:
                self._write(self._waiting)
                self._waiting = self._waiting.clear()
            self._written()
        finally:
            self._pool.shutdown()
            self._writer.close()


def write_parquet(frames: Iterable[pl.DataFrame], schema: Mapping[str, Any], target: Any) -> None:
    """Write frames of one schema to a Parquet file."""
    with GroupedWriter(target, schema) as writer:
        for frame in frames:
            writer.add(frame)
