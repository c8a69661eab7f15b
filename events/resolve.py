"""One event per ID, in final order, with sessions: SQL in DuckDB, which writes to disk what exceeds its memory."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from events.content import content_hash_sql
from events.contract import EVENT_SCHEMA
from events.sources.files import Size

MEMORY = "1500MB"  # of DuckDB; Polars needs about as much for the pieces, and both together stay below 4 GB
_FRAME = 1 << 17  # rows
_ALWAYS = 1 << 61  # microseconds: no time is as far from 1970

# Rows whose ID a row before them has, in the order of files and rows, and whether the content is the same.
_LATER = f"""
CREATE TABLE later AS
SELECT _part, _row, content = first_value(content) OVER ids AS same
FROM (
    SELECT event_id, _part, _row, {content_hash_sql()} AS content
    FROM accepted
    SEMI JOIN (SELECT event_id FROM accepted GROUP BY event_id HAVING count(*) > 1) USING (event_id)
)
WINDOW ids AS (PARTITION BY event_id ORDER BY _part, _row)
QUALIFY row_number() OVER ids > 1
"""  # noqa: S608

# When the session of each moment of a person began: sessions end after 30 idle minutes, as in Google Analytics.
_STARTS = """
CREATE TABLE starts AS
WITH moments AS (
    SELECT coalesce(user_id, anonymous_id) AS person, event_time, bool_or(session_id IS NULL) AS missing
    FROM accepted ANTI JOIN later USING (_part, _row)
    GROUP BY ALL
), begun AS (
    SELECT *, bool_or(missing) OVER (PARTITION BY person) AS lacking,
        CASE WHEN epoch_us(event_time) - lag(epoch_us(event_time)) OVER (PARTITION BY person ORDER BY event_time)
            <= 30 * 60 * 1000000 THEN NULL ELSE epoch_us(event_time) END AS begin
    FROM moments
), started AS (
    SELECT *, max(begin) OVER (PARTITION BY person ORDER BY event_time) AS start FROM begun WHERE lacking
)
SELECT person, event_time, start // 1000000 AS start FROM started WHERE missing ORDER BY event_time
"""


def _quoted(name: str) -> str:
    """Return a column name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


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
        self._without_session = False
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
        self._without_session |= full["session_id"].null_count() > 0
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

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """Return a database with the view `accepted`."""
        connection = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(self._folder / "spilled")})
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        if self._files:
            if self._waiting:
                self._write()
            files = connection.read_parquet([str(file) for file in self._files], hive_partitioning=False)
            files.create_view("accepted")
        else:
            rows = pl.concat(self._waiting) if self._waiting else pl.DataFrame(schema=self._schema)
            connection.register("accepted", rows.to_arrow())
        return connection

    def events(self) -> Iterator[pl.DataFrame]:
        """Yield `_part`, EVENT_SCHEMA and the other columns, sorted by event_time and event_id, once."""
        if not self.rows:
            return
        with self._connect() as connection:
            connection.execute(_LATER)
            counted = connection.execute("SELECT _part, count(*) FROM later WHERE same GROUP BY _part").fetchall()
            self.repeated.update(dict(counted))
            conflicting = connection.sql("SELECT _part, _row FROM later WHERE NOT same ORDER BY _part, _row")
            self.conflicting = pl.DataFrame(conflicting.to_arrow_table())
            if self._without_session:
                connection.execute(_STARTS)
            for low, high in pairwise([-_ALWAYS, *self._cuts(connection), _ALWAYS]):
                query = connection.sql(self._ordered(), params={"low": low, "high": high})
                for batch in query.to_arrow_reader(_FRAME):
                    yield pl.DataFrame(batch)

    def _cuts(self, connection: duckdb.DuckDBPyConnection) -> list[int]:
        """Return microseconds at which to cut time into stretches that are sorted in memory, one by one."""
        count = max(-(-self.rows // (8 * self._size.rows)), -(-self._bytes // (16 * self._size.bytes)))
        if count < 2:
            return []
        shares = [n / count for n in range(1, count)]
        query = "SELECT approx_quantile(epoch_us(event_time), $1::FLOAT[]) FROM accepted"
        ((found,),) = connection.execute(query, [shares]).fetchall()
        return sorted(set(found))

    def _ordered(self) -> str:
        """Return the query of the events from $low and before $high, in microseconds."""
        columns = {name: f"accepted.{_quoted(name)}" for name in [*EVENT_SCHEMA, *self._more, "_part"]}
        joins = "ANTI JOIN later USING (_part, _row)" if self.repeated or self.conflicting.height else ""
        if self._without_session:
            columns["session_id"] = "coalesce(accepted.session_id, concat(starts.person, '-', starts.start))"
            joins += (
                " LEFT JOIN starts ON starts.person = coalesce(accepted.user_id, accepted.anonymous_id)"
                " AND starts.event_time = accepted.event_time"
                " AND starts.event_time >= make_timestamptz($low) AND starts.event_time < make_timestamptz($high)"
            )
        selected = ", ".join(f"{source} AS {_quoted(name)}" for name, source in columns.items())
        return (
            f"SELECT {selected} FROM accepted {joins} WHERE accepted.event_time >= make_timestamptz($low) "  # noqa: S608
            "AND accepted.event_time < make_timestamptz($high) ORDER BY accepted.event_time, accepted.event_id"
        )
