"""Rows in a SQLite file: one table for rows and one for live events.

In WAL mode, readers never wait for a writer, a killed writer leaves the last complete transaction, and flushed data
survives a power failure. Deleted (not merely replaced) content is overwritten in the file.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from features.online_stores.rows import LiveEvent, RowStore, chunks, not_erased
from features.online_stores.views import Encoded, View

_BUSY_SECONDS = 30  # how long a write waits for another process's write
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA secure_delete = FAST;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased (hash TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    view TEXT, key TEXT, event_micros INT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (view, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live_events (
    user_id TEXT, event_micros INT, event_id TEXT, event TEXT NOT NULL, PRIMARY KEY (user_id, event_micros, event_id)
) WITHOUT ROWID;
"""
_ROWS_PER_STATEMENT = 64  # takes half the time of one row per statement
_PUT = """
INSERT INTO rows VALUES {} ON CONFLICT DO UPDATE
SET event_micros = excluded.event_micros, content = excluded.content WHERE excluded.event_micros >= rows.event_micros
"""
_TRIM = """
DELETE FROM live_events WHERE user_id = ?1 AND (event_micros, event_id) < (
    SELECT event_micros, event_id FROM live_events WHERE user_id = ?1
    ORDER BY event_micros DESC, event_id DESC LIMIT 1 OFFSET ?2)
"""
_FETCH = """
SELECT view, key, event_micros, content FROM rows
WHERE view IN (SELECT value FROM json_each(?1)) AND key IN (SELECT value FROM json_each(?2))
UNION ALL
SELECT NULL, NULL, NULL, event FROM live_events WHERE ?3 AND user_id IN (SELECT value FROM json_each(?2))
"""

DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
"""The error codes of SQLite for a file that is no longer a valid database."""


class SqliteRows(RowStore):
    """A `RowStore` in one file; threads take turns."""

    def __init__(self, path: Path) -> None:
        """Set the path; the file is created on first use."""
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.executescript(_SCHEMA)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._open().execute(statement, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, set[str]]]:
        """Hold the write lock for the block and yield the tombstones; an error rolls everything back."""
        with self._lock, self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection, {one for (one,) in connection.execute("SELECT hash FROM erased")}

    def meta(self, name: str) -> str | None:  # noqa: D102 - see `RowStore`
        found = self._all("SELECT content FROM meta WHERE name = ?", name)
        return found[0][0] if found else None

    def set_meta(self, name: str, text: str) -> None:  # noqa: D102
        self._all("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, text)

    def _put(self, view: View, rows: list[Encoded]) -> None:
        with self._transaction() as (connection, erased):
            for chunk in chunks(not_erased(rows, 1, erased) if view.of_people else rows, _ROWS_PER_STATEMENT):
                statement = _PUT.format(", ".join(["(?, ?, ?, ?)"] * len(chunk)))
                connection.execute(statement, list(chain.from_iterable(chunk)))

    def append(self, events: Iterable[LiveEvent]) -> None:  # noqa: D102
        last_n = self._keep()
        self._all("PRAGMA secure_delete = ON")
        with self._transaction() as (connection, erased):
            kept = not_erased(list(events), 0, erased)
            rows = [(one.user_id, one.time, one.event_id, json.dumps(one)) for one in kept]
            connection.executemany("INSERT OR IGNORE INTO live_events VALUES (?, ?, ?, ?)", rows)
            connection.executemany(_TRIM, [(user, last_n - 1) for user in {row[0] for row in rows}])

    def _fetch(self, views: list[str], keys: list[str], live: bool) -> tuple[list[Encoded], list[LiveEvent]]:
        found = self._all(_FETCH, json.dumps(views), json.dumps(keys), live)
        rows = [row for row in found if row[0] is not None]
        return rows, [LiveEvent(*json.loads(row[3])) for row in found if row[0] is None]

    def _delete(self, views: list[str], user_id: str) -> dict[str, int]:
        with self._transaction() as (connection, _):
            row = "DELETE FROM rows WHERE view = ? AND key = ?"
            removed = {view: connection.execute(row, [view, user_id]).rowcount for view in views}
            live = connection.execute("DELETE FROM live_events WHERE user_id = ?", [user_id]).rowcount
        return removed | {"live_events": live}

    def live(self) -> Iterator[LiveEvent]:  # noqa: D102
        for (event,) in self._all("SELECT event FROM live_events ORDER BY user_id, event_micros, event_id"):
            yield LiveEvent(*json.loads(event))

    def reject(self, hashes: Iterable[str], *, only: bool = False) -> None:  # noqa: D102
        self._all("PRAGMA secure_delete = ON" if not only else "PRAGMA secure_delete = FAST")  # ON makes loads slower
        with self._transaction() as (connection, _):
            if only:
                connection.execute("DELETE FROM erased")
            connection.executemany("INSERT OR IGNORE INTO erased VALUES (?)", [(one,) for one in hashes])

    def flush(self) -> None:
        """See `RowStore`. Checkpoints the WAL and syncs the file."""
        self._all("PRAGMA wal_checkpoint(TRUNCATE)")

    def remove(self) -> None:  # noqa: D102
        self.close()
        path = self._path.resolve()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """See `RowStore`. The last connection to close checkpoints the WAL."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
