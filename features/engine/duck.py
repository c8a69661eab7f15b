"""DuckDB as the engine: one process, bounded memory, and whatever does not fit is spilled to disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from features.engine.log import read_log

MEMORY_LIMIT = "3GB"  # of DuckDB's own; Polars, Arrow and the file being written come on top


@ibis.udf.scalar.builtin(name="epoch_us", signature=((dt.Timestamp(timezone="UTC"),), dt.int64))  # type: ignore[untyped-decorator]
def _epoch_us(moment: Any) -> int:  # type: ignore[empty-body]
    """Microseconds since 1970, as DuckDB counts them."""


class DuckEngine:
    """DuckDB behind Ibis, in memory, in UTC."""

    name = "duckdb"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def log(self, events: Sequence[Path], sentiment: Path | None = None) -> ir.Table:
        """See `Engine`."""
        raw = self.connection.read_parquet([str(path) for path in events])
        return read_log(raw, _epoch_us, None if sentiment is None else self.table(sentiment))

    def table(self, path: Path) -> ir.Table:
        """See `Engine`."""
        table: ir.Table = self.connection.read_parquet(str(path))
        return table

    def batches(self, table: ir.Table, size: int) -> pa.RecordBatchReader:
        """See `Engine`."""
        # Not through Ibis 12, which calls what DuckDB 2 has no longer.
        return self.connection.con.sql(self.connection.compile(table)).to_arrow_reader(size)


@contextmanager
def duckdb(spill: Path) -> Iterator[DuckEngine]:
    """Yield DuckDB, which spills to the folder `spill`."""
    connection = ibis.duckdb.connect()
    try:
        connection.raw_sql("SET TimeZone = 'UTC'")
        connection.raw_sql(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.raw_sql("SET preserve_insertion_order = false")
        connection.con.execute("SET temp_directory = $folder", {"folder": str(spill)})
        yield DuckEngine(connection)
    finally:
        connection.disconnect()
