"""A Parquet file written a frame at a time, in row groups of a fixed size: the bytes do not tell the frames apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

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
