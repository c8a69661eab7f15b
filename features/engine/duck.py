"""DuckDB as the engine: one process, bounded memory; what does not fit is written to disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from features.engine.contract import EngineName

MEMORY_LIMIT = "3GB"  # DuckDB alone; Polars, Arrow and the file being written need more


class DuckEngine:
    """DuckDB in memory, in UTC."""

    name: EngineName = "duckdb"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def read(self, table: str, files: Sequence[Path]) -> ibis.Schema:
        """See `Engine`."""
        source = self.connection.read_parquet([str(path) for path in files], hive_partitioning=False)
        source.create_view(table, replace=True)
        return ibis.Schema.from_pyarrow(source.limit(0).to_arrow_table().schema)

    def run(self, sql: str, schema: ibis.Schema, size: int) -> pa.RecordBatchReader:
        """See `Engine`."""
        return self.connection.sql(sql).to_arrow_reader(size)


@contextmanager
def duckdb(work: Path) -> Iterator[DuckEngine]:
    """Yield DuckDB, which writes what does not fit in memory to the folder `work`."""
    import duckdb

    settings: dict[str, Any] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(work),
        "preserve_insertion_order": "false",
    }
    connection = duckdb.connect(config=settings)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield DuckEngine(connection)
    finally:
        connection.close()
