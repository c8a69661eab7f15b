"""What an engine must be able to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import ibis
import pyarrow as pa

EngineName = Literal["duckdb", "spark"]


class Engine(Protocol):
    """Reads Parquet and runs the SQL of its dialect over it. All times are UTC."""

    name: EngineName

    def read(self, table: str, files: Sequence[Path]) -> ibis.Schema:
        """Make `table` stand for some Parquet files from now on; return its columns."""
        ...

    def run(self, sql: str, schema: ibis.Schema, size: int) -> pa.RecordBatchReader:
        """Hand over the answer in its order, `size` rows at a time (the last batch may be smaller)."""
        ...
