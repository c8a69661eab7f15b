"""One Parquet file from a view that may be larger than memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.windows import DAY_US

ROW_GROUP = 1 << 17


@dataclass
class Written:
    """A table that was written: its rows, and the missing values in each column."""

    rows: int
    nulls: dict[str, int]

    def null_shares(self) -> dict[str, float]:
        """Return which share of each column is missing."""
        return {name: count / self.rows if self.rows else 0.0 for name, count in self.nulls.items()}


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


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of `ROW_GROUP` rows, the last of fewer: the file depends on nothing but the rows."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        while sum(one.num_rows for one in waiting) >= ROW_GROUP:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, ROW_GROUP)
            waiting = table.slice(ROW_GROUP).to_batches()
    if any(batch.num_rows for batch in waiting):
        yield pa.Table.from_batches(waiting)


def write_parts(path: Path, parts: Iterable[pa.RecordBatchReader]) -> Written:
    """Write at least one part after the other, all of one schema."""
    left = iter(parts)
    first = next(left)
    written = Written(0, dict.fromkeys(first.schema.names, 0))
    with pq.ParquetWriter(path, first.schema, compression="zstd", store_schema=False) as writer:
        for table in _row_groups(chain(first, chain.from_iterable(left))):
            writer.write_table(table, row_group_size=ROW_GROUP)
            written.rows += table.num_rows
            for name, values in zip(table.column_names, table.columns, strict=True):
                written.nulls[name] += values.null_count
    return written


def write_whole(path: Path, table: pa.Table) -> Written:
    """Write a table that is in memory."""
    return write_parts(path, [table.to_reader()])
