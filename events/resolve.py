"""Deduplicate events by ID, sort them and assign sessions in DuckDB, which spills to disk at its memory limit."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from events.contract import EVENT_SCHEMA
from events.identity import VERSION, content_hash_sql
from events.sources.files import Size

MEMORY = "1500MB"  # limit of DuckDB; Polars needs about as much for the pieces, and both stay below 4 GB together
_FRAME = 1 << 17  # rows
_STRETCH = 4  # pieces

# Rows that repeat the ID of an earlier row, in the order of versions, files and rows; whether the content is the same,
# and whether they are an older version. IDs are counted by hash, which takes a third of the memory; the window compares
# the IDs themselves.
_LATER = f"""
CREATE TABLE later AS
SELECT _part, _row, content = first_value(content) OVER ids AS same,
    coalesce(_version < first_value(_version) OVER ids, false) AS older
FROM (
    SELECT event_id, _part, _row, _version, {content_hash_sql()} AS content
    FROM accepted
    SEMI JOIN (SELECT hash(event_id) AS shared FROM accepted GROUP BY shared HAVING count(*) > 1)
        ON hash(event_id) = shared
)
WINDOW ids AS (PARTITION BY event_id ORDER BY _version DESC NULLS LAST, _part, _row)
QUALIFY row_number() OVER ids > 1
"""  # noqa: S608

# Session starts for events without a session: sessions end after 30 idle minutes, as in Google Analytics.
_STARTS = """
CREATE TABLE starts AS
WITH moments AS (
    SELECT coalesce(user_id, anonymous_id) AS person, event_time AS moment, session_id IS NULL AS missing
    FROM accepted ANTI JOIN later USING (_part, _row)
), begun AS (
    SELECT person, moment AS begin FROM moments SEMI JOIN (SELECT person FROM moments WHERE missing) USING (person)
    WINDOW times AS (PARTITION BY person ORDER BY moment)
    QUALIFY coalesce(epoch_us(moment) - epoch_us(lag(moment) OVER times) > 30 * 60 * 1000000, true)
), lacking AS (
    SELECT DISTINCT person, moment FROM moments WHERE missing
)
SELECT lacking.person, moment, epoch_us(begin) // 1000000 AS start
FROM lacking ASOF JOIN begun ON lacking.person = begun.person AND moment >= begin ORDER BY moment
"""
# The final order of a time range that is small enough to fit in memory.
_ORDER = """
SELECT position, coalesce(session_id, concat(person, '-', start)) AS session_id
FROM stretch ANTI JOIN later USING (_part, _row)
LEFT JOIN (SELECT * FROM starts WHERE moment BETWEEN $first AND $last)
    ON person = coalesce(user_id, anonymous_id) AND moment = event_time
ORDER BY event_time, event_id
"""
_CONFLICTING = "SELECT _part, _row, older FROM later WHERE NOT same ORDER BY _part, _row"
_KEYS = ["event_time", "event_id", "session_id", "user_id", "anonymous_id", "_part", "_row"]


def _arrow(rows: pl.DataFrame) -> pa.Table:
    """Return rows for DuckDB without a copy of their texts."""
    return rows.to_arrow(compat_level=pl.CompatLevel.newest())


@dataclass(frozen=True)
class _Run:
    """A Parquet file of accepted rows sorted by time, with its first and last time."""

    file: Path
    first: datetime
    last: datetime


class Resolver:
    """Resolves the accepted rows of all tables to one event per ID.

    A few pieces are kept in memory. If there are more, each piece becomes a file sorted by time, so that a time range
    can be read from few row groups of few files. Memory: a few pieces, plus DuckDB's limit.

    Attributes:
        rows: Number of rows added.
        repeated: Number of exact duplicates per part; set once `events` is exhausted.
        conflicting: Sorted `_part` and `_row` of the rows with conflicting IDs, and whether each is the `older` version
            of its event; set once `events` is exhausted.
    """

    def __init__(self, folder: Path, more: list[str], size: Size) -> None:
        """Start without rows.

        Args:
            folder: An existing folder for temporary files.
            more: Additional text columns of the events.
            size: Limits of a piece.
        """
        self._folder, self._more, self._size = folder, more, size
        self._schema: dict[str, Any] = (
            {"_part": pl.Int32, "_row": pl.UInt32, VERSION: pl.Float64} | EVENT_SCHEMA | dict.fromkeys(more, pl.String)
        )
        self._waiting: list[pl.DataFrame] = []
        self._runs: list[_Run] = []
        self._pool = ThreadPoolExecutor(1)  # files are written and read while the main thread processes other rows
        self._writing: Future[None] | None = None
        self.rows = self._bytes = 0
        self.repeated: Counter[int] = Counter()
        self.conflicting = pl.DataFrame(schema={"_part": pl.Int32, "_row": pl.UInt32, "older": pl.Boolean})

    def add(self, part: int, frame: pl.DataFrame) -> None:
        """Add rows of a part; among rows with the same ID, the highest version wins, then the lowest part and row."""
        if frame.is_empty():
            return
        absent = [pl.lit(None, dtype=pl.String).alias(name) for name in self._more if name not in frame.columns]
        rows = frame.with_columns(pl.lit(part, dtype=pl.Int32).alias("_part"), *absent).select(list(self._schema))
        self.rows, self._bytes = self.rows + rows.height, self._bytes + int(rows.estimated_size())
        self._waiting.append(rows)
        if self._runs or self._stretch_count() > 1:
            for waiting in self._waiting:
                self._write(waiting)
            self._waiting = []

    def _stretch_count(self) -> int:
        rows, size = _STRETCH * self._size.rows, 4 * _STRETCH * self._size.bytes
        return max(-(-self.rows // rows), -(-self._bytes // size))

    def _write(self, rows: pl.DataFrame) -> None:
        """Begin to write a run, once the one before is written."""
        if not rows["event_time"].is_sorted():
            rows = rows.sort("event_time", maintain_order=True)
        run = _Run(self._folder / f"accepted-{len(self._runs):06}.parquet", *rows["event_time"][[0, -1]])
        self._runs.append(run)
        self._written()
        group = max(1, self._size.rows // 8)
        self._writing = self._pool.submit(rows.write_parquet, run.file, compression="lz4", row_group_size=group)

    def _written(self) -> None:
        """Wait for the file that is being written."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def events(self) -> Iterator[pl.DataFrame]:
        """Yield `_part`, EVENT_SCHEMA and the additional columns, sorted by event_time and event_id; callable once."""
        self._written()
        if not self.rows:
            return
        spilled = str(self._folder / "spilled")
        with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": spilled}) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
            if self._runs:
                files = [str(run.file) for run in self._runs]
                connection.read_parquet(files, hive_partitioning=False).create_view("accepted")
            else:  # in one chunk: rows of many chunks are slow to gather
                self._waiting = [pl.concat(self._waiting, rechunk=True)]
                connection.register("accepted", _arrow(self._waiting[0]))
            connection.execute(_LATER)
            counted = connection.execute("SELECT _part, count(*) FROM later WHERE same GROUP BY _part").fetchall()
            self.repeated.update(dict(counted))
            self.conflicting = pl.DataFrame(connection.sql(_CONFLICTING).to_arrow_table())
            connection.execute(_STARTS)
            for rows in self._stretches(connection):
                connection.register("stretch", _arrow(rows.select(_KEYS).with_row_index("position")))
                ends = {"first": rows["event_time"].min(), "last": rows["event_time"].max()}
                found = pl.DataFrame(connection.sql(_ORDER, params=ends).to_arrow_table())
                for part in found.iter_slices(_FRAME):
                    yield rows[part["position"]].with_columns(part["session_id"])

    def _stretches(self, connection: duckdb.DuckDBPyConnection) -> Iterator[pl.DataFrame]:
        """Yield the rows by time range, split further by ID if many rows have the same time."""
        if not self._runs:
            yield self._waiting.pop()
            return
        count = self._stretch_count()
        sample = f"SELECT event_time, event_id FROM accepted USING SAMPLE reservoir({64 * count} ROWS)"  # noqa: S608
        keys = pl.DataFrame(connection.sql(sample).to_arrow_table()).sort("event_time", "event_id")
        cuts = keys.unique(maintain_order=True).gather_every(64, offset=63).rows()
        stretches = list(pairwise([None, *cuts, None]))
        following = self._pool.submit(self._between, *stretches[0])
        for stretch in [*stretches[1:], None]:
            rows = following.result()
            if stretch is not None:
                following = self._pool.submit(self._between, *stretch)
            if rows.height:
                yield rows

    def _between(self, low: tuple[datetime, str] | None, high: tuple[datetime, str] | None) -> pl.DataFrame:
        """Return the rows from one (time, ID) up to another, exclusive."""
        at, name = pl.col("event_time"), pl.col("event_id")
        inside = [pl.lit(value=True)]
        runs = self._runs
        if low is not None:
            inside.append((at >= low[0]) & ((at > low[0]) | (name >= low[1])))
            runs = [run for run in runs if run.last >= low[0]]
        if high is not None:
            inside.append((at <= high[0]) & ((at < high[0]) | (name < high[1])))
            runs = [run for run in runs if run.first <= high[0]]
        if not runs:
            return pl.DataFrame(schema=self._schema)
        rows = pl.scan_parquet([run.file for run in runs], glob=False, hive_partitioning=False)
        return rows.filter(*inside).collect().rechunk()
