"""What an engine must be able to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import ibis.expr.types as ir
import pyarrow as pa


class Engine(Protocol):
    """Reads Parquet, and computes Ibis expressions over it. All times are UTC."""

    name: str

    def log(self, events: Sequence[Path], sentiment: Path | None = None) -> ir.Table:
        """Return the log (see `features.engine.log`) of files of events; `sentiment` holds event_id, sentiment."""
        ...

    def table(self, path: Path) -> ir.Table:
        """Return a Parquet table."""
        ...

    def batches(self, table: ir.Table, size: int) -> pa.RecordBatchReader:
        """Compute `table` and hand over its rows in its order, `size` at a time (the last batch may be smaller)."""
        ...
