"""Engines that run a view's SQL: DuckDB in one process, or Spark for data beyond one machine. Times are UTC."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from shoplens.errors import FeatureError

EngineName = Literal["duckdb", "spark"]
MEMORY_LIMIT = "3GB"  # DuckDB only; Polars, Arrow and the file being written need additional memory


def row_count(table: Path) -> int:
    """Return the number of rows of a Parquet file."""
    rows: int = pq.read_metadata(table).num_rows
    return rows


def quoted(name: str) -> str:
    """Quote the name of a table or column for SQL."""
    return '"' + name.replace('"', '""') + '"'


class DuckEngine:
    """In-memory DuckDB that runs SQL over Parquet files."""

    name: EngineName = "duckdb"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def read(self, table: str, files: Sequence[Path]) -> ibis.Schema:
        """Register Parquet files as `table` and return its columns."""
        source = self.connection.read_parquet([str(path) for path in files], hive_partitioning=False)
        source.create_view(table, replace=True)
        return ibis.Schema.from_pyarrow(source.limit(0).to_arrow_table().schema)

    def run(self, sql: str, schema: ibis.Schema, size: int) -> pa.RecordBatchReader:
        """Run a query and return its rows in order, in batches of `size` (the last may be smaller)."""
        return self.connection.sql(sql).to_arrow_reader(size)


@contextmanager
def duckdb(work: Path) -> Iterator[DuckEngine]:
    """Yield a DuckDB engine that spills to the folder `work`."""
    import duckdb

    config: Any = {"memory_limit": MEMORY_LIMIT, "temp_directory": str(work), "preserve_insertion_order": "false"}
    with duckdb.connect(config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield DuckEngine(connection)


class SparkEngine:
    """A Spark session with the same interface."""

    name: EngineName = "spark"

    def __init__(self, session: Any) -> None:
        self.session = session
        ibis.pyspark.connect(session)  # sets UTC, and registers the options that Ibis needs to compile

    def read(self, table: str, files: Sequence[Path]) -> ibis.Schema:
        """See `DuckEngine`."""
        frame = self.session.read.parquet(*(str(path) for path in files))
        frame.createOrReplaceTempView(table)
        return ibis.Schema.from_pyarrow(frame.limit(0).toArrow().schema)

    def run(self, sql: str, schema: ibis.Schema, size: int) -> pa.RecordBatchReader:
        """See `DuckEngine`."""
        kinds = schema.to_pyarrow()
        answer: pa.Table = self.session.sql(sql).toArrow()
        return answer.select(kinds.names).cast(kinds).combine_chunks().to_reader(max_chunksize=size)


Engine = DuckEngine | SparkEngine


@contextmanager
def spark() -> Iterator[SparkEngine]:
    """Yield a Spark engine: the running session, or a new one from Spark's configuration, stopped at the end.

    The configuration (`spark-defaults.conf`, `PYSPARK_SUBMIT_ARGS`) sets the master, the memory and the shuffle.

    Raises:
        FeatureError: PySpark or its Java is missing.
    """
    try:
        from pyspark.errors.exceptions.base import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise FeatureError(
            "SHOPLENS_ENGINE: is spark, but PySpark is not installed; run `make env SPARK=1`, or unset it"
        ) from error
    running = SparkSession.getActiveSession()
    try:
        session = running or SparkSession.builder.appName("shoplens").getOrCreate()
    except PySparkRuntimeError as error:
        raise FeatureError(f"SHOPLENS_ENGINE: Spark does not start ({error}); it needs Java 17") from error
    try:
        yield SparkEngine(session)
    finally:
        if running is None:
            session.stop()
