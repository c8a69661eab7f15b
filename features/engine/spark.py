"""Spark as the engine: the same expressions for data beyond one machine.

The session is the one that is running, else one by Spark's own configuration (`spark-defaults.conf`,
`PYSPARK_SUBMIT_ARGS`): its master, its memory and its shuffle are Spark's business.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from features.engine.contract import EngineName
from shoplens.errors import FeatureError


class SparkEngine:
    """Spark, in UTC."""

    name: EngineName = "spark"

    def __init__(self, session: Any) -> None:
        self.session = session
        ibis.pyspark.connect(session)  # sets UTC, and registers the options that Ibis asks for while it compiles

    def read(self, table: str, files: Sequence[Path]) -> ibis.Schema:
        """See `Engine`."""
        frame = self.session.read.parquet(*(str(path) for path in files))
        frame.createOrReplaceTempView(table)
        return ibis.Schema.from_pyarrow(frame.limit(0).toArrow().schema)

    def run(self, sql: str, schema: ibis.Schema, size: int) -> pa.RecordBatchReader:
        """See `Engine`."""
        kinds = schema.to_pyarrow()
        answer: pa.Table = self.session.sql(sql).toArrow()
        return answer.select(kinds.names).cast(kinds).combine_chunks().to_reader(max_chunksize=size)


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
