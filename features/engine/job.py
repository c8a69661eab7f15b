"""Compute views one by one, each from as many events at a time as memory allows, into one Parquet file per view."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import ibis
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.engine.engines import Engine, EngineName, row_count
from features.engine.log import READ, midnight, read_log
from features.views.contract import View, ViewInput
from features.views.windows import Days

ROW_GROUP = 1 << 17
Progress = Callable[[int, int], None]  # (parts done, total parts)

_EVENTS, _CATALOGUE, _SENTIMENT = "events", "catalogue", "sentiment"  # names that the SQL reads
_DIALECTS = {"duckdb": "duckdb", "spark": "pyspark"}
# Events per piece. A single day needs one state per key; a history needs the changes of every key and day.
_ONE_DAY_ROWS = 200_000_000
_HISTORY_ROWS = 4_000_000
_FLUSH_ROWS = 1 << 16  # rows of a piece that a thread buffers before writing


@dataclass
class SplitLog:
    """Splits the event log into pieces by key on demand, so that memory is bounded by a piece and not by the log.

    A piece is a range of sorted keys with all their events; pieces have about the same number of events and are sorted
    by key. A log is split once per key and size, and the pieces are kept below `folder`.
    """

    connection: Any  # a DuckDB connection
    events: Path
    folder: Path

    def by(self, key: str, rows: int) -> list[Path]:
        """Return pieces of about `rows` events each that together contain all events with a `key`.

        A key with more events makes its piece larger. If the log has no more than `rows` events, it is the only piece.
        """
        if row_count(self.events) <= rows:
            return [self.events]
        target = self.folder / f"{key}-{rows}"
        if not target.exists():
            source = self.connection.read_parquet(str(self.events))
            there = [name for name in READ if name in source.columns]
            counts = source.filter(f"{key} IS NOT NULL").aggregate(f"{key}, count(*) AS events", key).pl()
            before = pl.col("events").cum_sum() - pl.col("events")
            self.connection.register("pieces", counts.sort(key).select(key, piece=(before // rows).cast(pl.Int32)))
            self.connection.execute(f"SET partitioned_write_flush_threshold = {_FLUSH_ROWS}")
            cut = source.join(self.connection.table("pieces"), key).project(", ".join([*there, "piece"]))
            cut.write_parquet(str(target), partition_by=["piece"], compression="lz4")
            self.connection.unregister("pieces")
        return sorted(target.glob("piece=*"), key=lambda path: int(path.name.removeprefix("piece=")))


@dataclass(frozen=True)
class Written:
    """Statistics of a written table: its number of rows, and the share of missing values per column."""

    rows: int
    null_shares: dict[str, float]


def write_parts(path: Path, parts: Iterable[pa.RecordBatchReader]) -> Written:
    """Write one or more parts with the same schema to a file; its bytes depend only on the rows."""
    left = iter(parts)
    first = next(left)
    rows, nulls = 0, dict.fromkeys(first.schema.names, 0)
    with pq.ParquetWriter(path, first.schema, compression="zstd", store_schema=False) as writer:
        for table in _row_groups(chain(first, chain.from_iterable(left))):
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
            for name, values in zip(table.column_names, table.columns, strict=True):
                nulls[name] += values.null_count
    return Written(rows, {name: count / rows if rows else 0.0 for name, count in nulls.items()})


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of `ROW_GROUP` rows; the last may be smaller."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        while sum(one.num_rows for one in waiting) >= ROW_GROUP:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, ROW_GROUP)
            waiting = table.slice(ROW_GROUP).to_batches()
    if any(batch.num_rows for batch in waiting):
        yield pa.Table.from_batches(waiting)


@dataclass(frozen=True)
class Job:
    """Everything that the views of one run share.

    Attributes:
        engine: The engine that runs the queries.
        log: The events.
        out: The output folder, which already contains `catalogue.parquet`.
        days: The days to snapshot.
        reach: Days after an event that a user stays active.
        sentiment: Parquet file with event_id and sentiment of the reviews; None if no review was scored.
    """

    engine: Engine
    log: SplitLog
    out: Path
    days: Days
    reach: int
    sentiment: Path | None = None

    def write(self, view: View, progress: Progress) -> Written:
        """Write NAME.parquet (keys, event_timestamp, features), sorted by piece, day and key."""
        if view.whole or self.engine.name == "spark":  # Spark partitions by itself
            pieces = [self.log.events]
        else:
            pieces = self.log.by(view.keys[0], _ONE_DAY_ROWS if self.days.single else _HISTORY_ROWS)

        def parts() -> Iterator[pa.RecordBatchReader]:
            for place, piece in enumerate(pieces, 1):
                yield self._rows(view, tuple(sorted(piece.glob("*.parquet"))) if piece.is_dir() else (piece,))
                progress(place, len(pieces))

        return write_parts(self.out / f"{view.name}.parquet", parts())

    def _rows(self, view: View, files: tuple[Path, ...]) -> pa.RecordBatchReader:
        """Return a view's snapshots computed from some event files, sorted by day and then by key."""
        sources = {_EVENTS: files, _CATALOGUE: (self.out / "catalogue.parquet",)}
        if view.reviews and self.sentiment is not None:
            sources[_SENTIMENT] = (self.sentiment,)
        tables = tuple((name, self.engine.read(name, found)) for name, found in sources.items())
        sql, schema = _compiled(self.engine.name, view, self.days, self.reach, tables)
        return self.engine.run(sql, schema, ROW_GROUP)


@lru_cache(maxsize=512)
def _compiled(
    engine: EngineName, view: View, days: Days, reach: int, tables: tuple[tuple[str, ibis.Schema], ...]
) -> tuple[str, ibis.Schema]:
    """Return a view's SQL, which sorts rows by day and key, and its schema; pure but slow, hence cached."""
    # Fusing takes a third of the compile time and helps neither engine: both flatten subqueries themselves.
    ibis.options.sql.fuse_selects = False
    inputs = {name: ibis.table(schema, name=name) for name, schema in tables}
    log = read_log(inputs[_EVENTS], engine, inputs.get(_SENTIMENT))
    if view.keys[0] == "user_id":
        log = log.filter(log.user_id.notnull())
    t = view.build(ViewInput(log, inputs[_CATALOGUE], days, reach))
    kinds = {
        name: "int32" if name in view.counts else "float32" for name, kind in t.schema().items() if kind.is_float64()
    }
    values = {name: t[name].cast(kinds[name]) if name in kinds else t[name] for name in view.descriptions}
    rows = t.select(*view.keys, event_timestamp=midnight(t.day, engine), **values)
    rows = rows.order_by("event_timestamp", *view.keys)
    return str(ibis.to_sql(rows, dialect=_DIALECTS[engine], pretty=False)), rows.schema()
