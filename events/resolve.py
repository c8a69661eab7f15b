"""One event per ID, in final order, with sessions: SQL in DuckDB, which writes to disk what exceeds its memory."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from events.contract import EVENT_SCHEMA
from events.identity import content_hash_sql
from events.sources.files import Size

MEMORY = "1500MB"  # of DuckDB; Polars needs about as much for the pieces, and both together stay below 4 GB
_FRAME = 1 << 17  # rows

# Rows whose ID a row before them has, in the order of files and rows, and whether the content is the same. IDs are
# counted by their hashes, which take a third of the memory; the window compares the IDs themselves.
_LATER = f"""
CREATE TABLE later AS
SELECT _part, _row, content = first_value(content) OVER ids AS same
FROM (
    SELECT event_id, _part, _row, {content_hash_sql()} AS content
    FROM accepted
    SEMI JOIN (SELECT hash(event_id) AS shared FROM accepted GROUP BY shared HAVING count(*) > 1)
        ON hash(event_id) = shared
)
WINDOW ids AS (PARTITION BY event_id ORDER BY _part, _row)
QUALIFY row_number() OVER ids > 1
"""  # noqa: S608

# When the session of each moment without one began: sessions end after 30 idle minutes, as in Google Analytics.
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
# The final order of a stretch of time, whose rows are few enough to be in memory.
_ORDER = """
SELECT position, coalesce(session_id, concat(person, '-', start)) AS session_id
FROM stretch ANTI JOIN later USING (_part, _row)
LEFT JOIN (SELECT * FROM starts WHERE moment BETWEEN $first AND $last)
    ON person = coalesce(user_id, anonymous_id) AND moment = event_time
ORDER BY event_time, event_id
"""
_KEYS = ["event_time", "event_id", "session_id", "user_id", "anonymous_id", "_part", "_row"]


def _arrow(rows: pl.DataFrame) -> pa.Table:
    """Return rows for DuckDB without a copy of their texts."""
    return rows.to_arrow(compat_level=pl.CompatLevel.newest())


class Resolver:
    """Accepted rows of all tables, to one event per ID.

    Attributes:
        rows: How many rows were added.
        repeated: How many exact duplicates each part has, after `events`.
        conflicting: `_part` and `_row`, in order, of rows whose ID came with other content before, after `events`.
    """

    def __init__(self, folder: Path, more: list[str], size: Size) -> None:
        """Start with no rows.

        Args:
            folder: An existing folder for rows that exceed the memory.
            more: Text columns beside EVENT_SCHEMA that events carry.
            size: Limits of a piece; about sixteen pieces are held in memory.
        """
        self._folder, self._more, self._size = folder, more, size
        self._schema: dict[str, Any] = (
            {"_part": pl.Int32, "_row": pl.UInt32} | EVENT_SCHEMA | dict.fromkeys(more, pl.String)
        )
        self._waiting: list[pl.DataFrame] = []
        self._waiting_bytes = self._bytes = 0
        self._files: list[Path] = []
        self.rows = 0
        self.repeated: Counter[int] = Counter()
        self.conflicting = pl.DataFrame(schema={"_part": pl.Int32, "_row": pl.UInt32})

    def add(self, part: int, frame: pl.DataFrame) -> None:
        """Add rows of a part; of two rows with one ID, that of the lower part and row is the event."""
        absent = [pl.lit(None, dtype=pl.String).alias(name) for name in self._more if name not in frame.columns]
        full = frame.with_columns(pl.lit(part, dtype=pl.Int32).alias("_part"), *absent).select(list(self._schema))
        self._waiting.append(full)
        size = int(full.estimated_size())
        self._waiting_bytes, self._bytes = self._waiting_bytes + size, self._bytes + size
        self.rows += full.height
        if self._waiting_bytes >= 16 * self._size.bytes:
            self._write()

    def _write(self) -> None:
        """Write waiting rows to a file, sorted by time: a stretch of time is then read from few row groups."""
        rows = pl.concat(self._waiting)
        if not rows["event_time"].is_sorted():
            rows = rows.sort("event_time", maintain_order=True)
        self._files.append(self._folder / f"accepted-{len(self._files):06}.parquet")
        rows.write_parquet(self._files[-1], compression="lz4", row_group_size=max(1, self._size.rows // 8))
        self._waiting, self._waiting_bytes = [], 0

    def events(self) -> Iterator[pl.DataFrame]:
        """Yield `_part`, EVENT_SCHEMA and the other columns, sorted by event_time and event_id, once."""
        if not self.rows:
            return
        spilled = str(self._folder / "spilled")
        with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": spilled}) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
            self._register(connection)
            connection.execute(_LATER)
            counted = connection.execute("SELECT _part, count(*) FROM later WHERE same GROUP BY _part").fetchall()
            self.repeated.update(dict(counted))
            conflicting = connection.sql("SELECT _part, _row FROM later WHERE NOT same ORDER BY _part, _row")
            self.conflicting = pl.DataFrame(conflicting.to_arrow_table())
            connection.execute(_STARTS)
            for rows in filter(len, self._stretches(connection)):
                connection.register("stretch", _arrow(rows.select(_KEYS).with_row_index("position")))
                ends = {"first": rows["event_time"].min(), "last": rows["event_time"].max()}
                found = connection.sql(_ORDER, params=ends).to_arrow_table()
                for part in pl.DataFrame(found).iter_slices(_FRAME):
                    yield rows[part["position"]].with_columns(part["session_id"])

    def _register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the rows known to the database as `accepted`."""
        if not self._files:
            # In one chunk: rows of many chunks are slow to gather.
            self._waiting = [pl.concat(self._waiting, rechunk=True)]
            connection.register("accepted", _arrow(self._waiting[0]))
            return
        if self._waiting:
            self._write()
        files = connection.read_parquet([str(file) for file in self._files], hive_partitioning=False)
        files.create_view("accepted")

    def _stretches(self, connection: duckdb.DuckDBPyConnection) -> Iterator[pl.DataFrame]:
        """Yield the rows in stretches of time, and of IDs where many rows are of one moment."""
        if not self._files:
            yield self._waiting.pop()
            return
        count = max(-(-self.rows // (8 * self._size.rows)), -(-self._bytes // (16 * self._size.bytes)))
        sample = connection.sql(f"SELECT event_time, event_id FROM accepted USING SAMPLE reservoir({64 * count} ROWS)")  # noqa: S608
        keys = pl.DataFrame(sample.to_arrow_table()).sort("event_time", "event_id").unique(maintain_order=True)
        cuts = [None, *keys.gather_every(64, offset=63).rows(), None]
        rows = pl.scan_parquet(self._files, glob=False, hive_partitioning=False)
        at, name = pl.col("event_time"), pl.col("event_id")
        for low, high in pairwise(cuts):
            inside = rows
            if low is not None:
                inside = inside.filter((at >= low[0]) & ((at > low[0]) | (name >= low[1])))
            if high is not None:
                inside = inside.filter((at <= high[0]) & ((at < high[0]) | (name < high[1])))
            yield inside.collect().rechunk()
