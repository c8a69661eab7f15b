"""One Parquet file from a view that may be larger than memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.windows import DAY_US

ROW_GROUP = 1 << 17


@dataclass
class TableWriter:
    """Writes batches of one schema, in row groups of `ROW_GROUP` rows: the file depends on nothing but the rows.

    Attributes:
        rows: Rows written.
        nulls: Column -> missing values in it.
    """

    path: Path
    schema: pa.Schema
    rows: int = 0
    nulls: dict[str, int] = field(default_factory=dict)
    _waiting: list[pa.RecordBatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nulls = dict.fromkeys(self.schema.names, 0)
        self._writer = pq.ParquetWriter(self.path, self.schema, compression="zstd", store_schema=False)

    def __enter__(self) -> "TableWriter":
        return self

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Append rows."""
        for batch in batches:
            self.rows += batch.num_rows
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                self.nulls[name] += values.null_count
            self._waiting.append(batch)
            self._flush(ROW_GROUP)

    def _flush(self, least: int) -> None:
        while sum(batch.num_rows for batch in self._waiting) >= least:
            table = pa.Table.from_batches(self._waiting)
            self._writer.write_table(table.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
            self._waiting = table.slice(ROW_GROUP).to_batches()

    def null_shares(self) -> dict[str, float]:
        """Return which share of each column is missing."""
        return {name: count / self.rows if self.rows else 0.0 for name, count in self.nulls.items()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush(1)
        self._writer.close()


def dated(rows: pa.RecordBatchReader, keys: int) -> pa.RecordBatchReader:
    """Turn `day` (since 1970) into `event_timestamp`, the first column after the `keys` columns of the entity."""
    names = [name for name in rows.schema.names if name != "day"]
    order = [*names[:keys], "event_timestamp", *names[keys:]]
    moment = pa.field("event_timestamp", pa.timestamp("us", tz="UTC"))
    schema = pa.schema([moment if name == "event_timestamp" else rows.schema.field(name) for name in order])

    def changed() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            day = pc.multiply(batch["day"].cast(pa.int64()), DAY_US).cast(moment.type)
            yield pa.RecordBatch.from_arrays([day if n == moment.name else batch[n] for n in order], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, changed())


def write_parts(path: Path, parts: Iterable[pa.RecordBatchReader]) -> TableWriter:
    """Write at least one part after the other, all of one schema."""
    left = iter(parts)
    first = next(left)
    with TableWriter(path, first.schema) as writer:
        for part in chain([first], left):
            writer.write(part)
    return writer


def write_whole(path: Path, table: pa.Table) -> TableWriter:
    """Write a table that is in memory."""
    return write_parts(path, [table.to_reader()])
