"""Rows in a SQLite file: a table for each view, a typed column for each feature, a row for each key.

Write-ahead mode: readers never wait for a writer, a killed writer leaves the last whole transaction, and what is kept
by `finish` survives the loss of power too.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.online_stores.cells import columns, pack, unpack
from features.online_stores.erased import ERASABLE_KEY, Erased, refused, tombstone
from features.online_stores.rows import CellRow, Change, Key, Progress
from features.online_stores.shape import Row, ViewShape
from shoplens.errors import FeatureError

_BUSY_SECONDS = 30  # how long a write waits for another process's write
_KEYS_A_QUERY = 5_000  # SQLite takes 32,766 parameters
_TIME = "event_micros"
_OWN = "shoplens_"  # begins the names of tables that are no views
_OWN_TABLES = (
    "CREATE TABLE IF NOT EXISTS shoplens_progress (view TEXT PRIMARY KEY, load TEXT NOT NULL, slices INT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS shoplens_erased (hash TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS shoplens_loaded (load TEXT NOT NULL)",
)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_all(names: Iterable[str]) -> str:
    return ", ".join(map(_quoted, names))


def _version(connection: sqlite3.Connection) -> int:
    """Return how often the tombstones changed: SQLite keeps a number for its user, and changes it in transactions."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _changed(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {_version(connection) + 1:d}")  # a pragma takes no parameters


class SqliteRows:
    """A `RowStore` in one file. Safe to share between threads, which take turns."""

    def __init__(self, path: Path) -> None:
        """Open the file, which is made when first written."""
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._prepared: dict[str, ViewShape] = {}
        self._erased = Erased()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA secure_delete = FAST")
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the only right to write while the block lasts; an error takes back all of it."""
        with self._lock:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with suppress(sqlite3.Error):  # the first error is the one to tell
                    connection.execute("ROLLBACK")
                self._prepared.clear()
                raise
            connection.execute("COMMIT")

    def prepare(self, shape: ViewShape) -> None:
        """See `RowStore`. A retyped feature is empty until it is written again; other keys begin an empty view."""
        if self._prepared.get(shape.name) == shape:
            return
        with self._transaction() as connection:
            for statement in _OWN_TABLES:
                connection.execute(statement)
            self._fit(connection, shape)
        self._prepared[shape.name] = shape

    def _fit(self, connection: sqlite3.Connection, shape: ViewShape) -> None:
        if shape.name.startswith((_OWN, "sqlite_")) or _TIME in (*shape.keys, *shape.names):
            raise FeatureError(
                f"view {shape.name}: must not begin with {_OWN} or sqlite_, nor have a feature {_TIME}; rename it"
            )
        table = _quoted(shape.name)
        held = {name: kind for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")}
        wanted = {name: kind.sqlite for name, kind in shape.features}
        if held and tuple(held)[: len(shape.keys) + 1] != (*shape.keys, _TIME):
            connection.execute(f"DROP TABLE {table}")
            held = {}
        if not held:
            parts = [f"{_quoted(key)} TEXT NOT NULL" for key in shape.keys] + [f"{_TIME} INT64 NOT NULL"]
            parts += [f"{_quoted(name)} {kind}" for name, kind in wanted.items()]
            connection.execute(f"CREATE TABLE {table} ({', '.join(parts)}, PRIMARY KEY ({_quoted_all(shape.keys)}))")
            return
        features = dict(list(held.items())[len(shape.keys) + 1 :])
        for name in [name for name, kind in features.items() if wanted.get(name) != kind]:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {_quoted(name)}")
        for name in [name for name, kind in wanted.items() if features.get(name) != kind]:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} {wanted[name]}")

    def drop(self, name: str) -> None:
        """See `RowStore`."""
        with self._transaction() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {_quoted(name)}")
            for statement in _OWN_TABLES:
                connection.execute(statement)
            connection.execute("DELETE FROM shoplens_progress WHERE view = ?", [name])
        self._prepared.pop(name, None)

    def _refused(self, connection: sqlite3.Connection, shape: ViewShape, keys: list[list[str]]) -> set[int]:
        hashes = self._erased.current(
            _version(connection), lambda: [one for (one,) in connection.execute("SELECT hash FROM shoplens_erased")]
        )
        return set(refused(shape, keys, hashes))

    def _insert(
        self, connection: sqlite3.Connection, shape: ViewShape, keys: list[list[str]], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        """Write rows (keys, event time, cells) but for those of erased users; `keys` has one column a key."""
        no = self._refused(connection, shape, keys)
        names = (*shape.keys, _TIME, *shape.names)
        values = (_TIME, *shape.names)
        statement = (
            f"INSERT INTO {_quoted(shape.name)} ({_quoted_all(names)}) "  # noqa: S608 - quoted; values are bound
            f"VALUES ({', '.join('?' * len(names))}) ON CONFLICT ({_quoted_all(shape.keys)}) DO UPDATE SET "
            f"{', '.join(f'{_quoted(name)} = excluded.{_quoted(name)}' for name in values)} "
            f"WHERE excluded.{_TIME} >= {_quoted(shape.name)}.{_TIME}"
        )
        allowed = (row for place, row in enumerate(rows) if place not in no) if no else rows
        connection.executemany(statement, allowed)

    def write(self, shape: ViewShape, rows: Iterable[Row]) -> None:
        """See `RowStore`."""
        self.prepare(shape)
        with self._transaction() as connection:
            self._write(connection, shape, rows)

    def _write(self, connection: sqlite3.Connection, shape: ViewShape, rows: Iterable[Row]) -> None:
        packed = [
            (*row.key, row.event_micros, *(pack(kind, one) for kind, one in zip(shape.kinds, row.values, strict=True)))
            for row in rows
        ]
        keys: list[list[Any]] = [[row[place] for row in packed] for place in range(len(shape.keys))]
        self._insert(connection, shape, keys, packed)

    def load(self, shape: ViewShape, batch: pa.RecordBatch, progress: Progress | None = None) -> None:
        """See `RowStore`: rows and progress are one transaction."""
        self.prepare(shape)
        keys, micros, cells = columns(batch, shape)
        with self._transaction() as connection:
            self._insert(connection, shape, keys, zip(*keys, micros, *cells, strict=True))
            if progress is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO shoplens_progress (view, load, slices) VALUES (?, ?, ?)",
                    [shape.name, *progress],
                )

    def progress(self, name: str, load: str) -> int:
        """See `RowStore`."""
        with self._transaction() as connection:
            for statement in _OWN_TABLES:
                connection.execute(statement)
            found = connection.execute(
                "SELECT slices FROM shoplens_progress WHERE view = ? AND load = ?", [name, load]
            ).fetchone()
        return found[0] if found else 0

    def read(self, shape: ViewShape, keys: Sequence[Key], names: Sequence[str] | None = None) -> dict[Key, Row]:
        """See `RowStore`."""
        wanted = shape.names if names is None else tuple(names)
        kinds = dict(shape.features)
        chosen = tuple(kinds[name] for name in wanted)
        plain = [kind.code != "?" and not kind.is_list for kind in chosen]
        width, result = len(shape.keys), {}
        for cells in self._select(shape, keys, wanted):
            values = tuple(
                cell if as_is else unpack(kind, cell)
                for as_is, kind, cell in zip(plain, chosen, cells[width + 1 :], strict=True)
            )
            result[cells[:width]] = Row(cells[:width], cells[width], values)
        return result

    def _select(self, shape: ViewShape, keys: Sequence[Key], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        begin = f"SELECT {_quoted_all((*shape.keys, _TIME, *names))} FROM {_quoted(shape.name)} WHERE "  # noqa: S608
        one = f"({', '.join('?' * len(shape.keys))})"
        columns = f"({_quoted_all(shape.keys)})"
        remaining = iter(keys)
        while some := list(islice(remaining, _KEYS_A_QUERY)):
            if len(shape.keys) == 1:
                where = f"{columns} IN ({', '.join('?' * len(some))})"
            else:
                where = f"{columns} IN (VALUES {', '.join([one] * len(some))})"
            with self._lock:
                found = self._open().execute(begin + where, [part for key in some for part in key]).fetchall()
            yield from found

    def change(self, shape: ViewShape, keys: Sequence[Key], change: Change) -> None:
        """See `RowStore`."""
        self.prepare(shape)
        with self._transaction() as connection:
            self._write(connection, shape, change(self.read(shape, keys)))

    def scan(self, shape: ViewShape) -> Iterator[CellRow]:
        """See `RowStore`. What is written meanwhile is not seen."""
        with self._lock:
            names = (*shape.keys, _TIME, *shape.names)
            found = self._open().execute(
                f"SELECT {_quoted_all(names)} FROM {_quoted(shape.name)} ORDER BY {_quoted_all(shape.keys)}"  # noqa: S608
            )
        width = len(shape.keys)
        for row in found:
            yield CellRow(row[:width], row[width], row[width + 1 :])

    def views(self) -> set[str]:
        """See `RowStore`."""
        return set(self._tables())

    def _tables(self) -> dict[str, tuple[str, ...]]:
        """Return the views in the file, and the columns of each."""
        with self._lock:
            connection = self._open()
            names = [
                name
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                if not name.startswith((_OWN, "sqlite_"))
            ]
            return {
                name: tuple(column for _, column, *_ in connection.execute(f"PRAGMA table_info({_quoted(name)})"))
                for name in names
            }

    def erase(self, value: str) -> dict[str, int]:
        """See `RowStore`. What was kept is overwritten in the file, and not left in the write-ahead log either."""
        removed = {}
        views = [name for name, names in self._tables().items() if ERASABLE_KEY in names]
        with self._lock:
            self._open().execute("PRAGMA secure_delete = ON")
            with self._transaction() as connection:
                for statement in _OWN_TABLES:
                    connection.execute(statement)
                connection.execute("INSERT OR IGNORE INTO shoplens_erased VALUES (?)", [tombstone(value)])
                _changed(connection)
                for name in views:
                    statement = f"DELETE FROM {_quoted(name)} WHERE {_quoted(ERASABLE_KEY)} = ?"  # noqa: S608 - quoted
                    removed[name] = connection.execute(statement, [value]).rowcount
            self._durable()
        return removed

    def tombstones(self, hashes: Iterable[str]) -> None:
        """See `RowStore`."""
        with self._transaction() as connection:
            for statement in _OWN_TABLES:
                connection.execute(statement)
            connection.execute("DELETE FROM shoplens_erased")
            connection.executemany("INSERT INTO shoplens_erased VALUES (?)", [(one,) for one in sorted(set(hashes))])
            _changed(connection)

    def _durable(self) -> None:
        """Bring the write-ahead log into the file, and the file to the disk."""
        with self._lock:
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def finish(self, load: str) -> None:
        """See `RowStore`."""
        with self._transaction() as connection:
            for statement in _OWN_TABLES:
                connection.execute(statement)
            connection.execute("DELETE FROM shoplens_loaded")
            connection.execute("INSERT INTO shoplens_loaded VALUES (?)", [load])
        self._durable()

    def loaded(self) -> str | None:
        """See `RowStore`."""
        if not self._path.is_file():
            return None
        with self._lock:
            connection = self._open()
            named = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'shoplens_loaded'").fetchone()
            found = connection.execute("SELECT load FROM shoplens_loaded").fetchone() if named else None
        return found[0] if found else None

    def close(self) -> None:
        """See `RowStore`. The last to close brings the write-ahead log into the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
