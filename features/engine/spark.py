"""Spark as the engine: the same expressions where one machine is outgrown.

The session is the one that is running, else one by Spark's own configuration (`spark-defaults.conf`,
`PYSPARK_SUBMIT_ARGS`): its master, its memory and its shuffle are Spark's business.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from features.engine.log import read_log
from shoplens.errors import FeatureError


@ibis.udf.scalar.builtin(name="unix_micros", signature=((dt.Timestamp(timezone="UTC"),), dt.int64))  # type: ignore[untyped-decorator]
def _unix_micros(moment: Any) -> int:  # type: ignore[empty-body]
    """Microseconds since 1970, as Spark counts them."""


class SparkEngine:
    """Spark behind Ibis, in UTC."""

    name = "spark"

    def __init__(self, session: Any) -> None:
        self.session = session
        self.connection = ibis.pyspark.connect(session)

    def log(self, events: Sequence[Path], sentiment: Path | None = None) -> ir.Table:
        """See `Engine`."""
        name = ibis.util.gen_name("events")
        self.session.read.parquet(*(str(path) for path in events)).createOrReplaceTempView(name)
        return read_log(self.connection.table(name), _unix_micros, None if sentiment is None else self.table(sentiment))

    def table(self, path: Path) -> ir.Table:
        """See `Engine`."""
        table: ir.Table = self.connection.read_parquet(str(path))
        return table

    def batches(self, table: ir.Table, size: int) -> pa.RecordBatchReader:
        """See `Engine`."""
        answer: pa.Table = self.session.sql(self.connection.compile(table)).toArrow()
        schema = table.schema().to_pyarrow()
        return answer.select(schema.names).cast(schema).combine_chunks().to_reader(max_chunksize=size)


@contextmanager
def spark() -> Iterator[SparkEngine]:
    """Yield Spark; a session that this starts is stopped at the end.

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
