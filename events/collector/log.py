"""The collector's log, an SQLite database on disk that holds every acknowledged event.

A record is one line with a position; positions increase by one and are never reused. Each batch is one row and one
transaction of SQLite's write-ahead log, synchronized to disk before `append` returns, so a batch is complete or absent
even after a crash. The row's checksum detects later corruption on the disk.
"""

import errno
import sqlite3
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from shoplens.errors import SettingsError, StageBusyError

_FILE = "log.sqlite"
_PAGE_BYTES = 16_384  # four times SQLite's default: commits write fewer pages, and drops move fewer
# Page size and vacuum mode must precede the first table. FULL syncs every commit, not only checkpoints.
_OPEN = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS log (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    last INTEGER PRIMARY KEY AUTOINCREMENT, -- position of the last record
    before INTEGER NOT NULL,                -- position before the first record
    written REAL NOT NULL,
    crc INTEGER NOT NULL,                   -- CRC-32 of the content
    content BLOB NOT NULL                   -- the records, joined by line breaks
);
"""
_READ = "SELECT last, before, crc, content FROM batches WHERE last > ? AND last <= ? ORDER BY last"
_DROP = "DELETE FROM batches WHERE last <= min(?, (SELECT min(last) FROM batches) + ?) AND written < ?"
_DAMAGED = (
    "{path}: records {first} to {last} must be as they were written; their checksum differs. Check the disk and "
    "restore the file, or stop the collector and give them up: sqlite3 {path} 'DELETE FROM batches WHERE last = {last}'"
)
_DROPPED_AT_ONCE = 20_000  # records deleted per transaction, which blocks appends for a few milliseconds
_FREE_PAGES = (64 << 20) // _PAGE_BYTES  # free pages that stay in the file for reuse; the rest is released
_PAGES_AT_ONCE = (4 << 20) // _PAGE_BYTES


class Record(NamedTuple):
    """One record: its position in the log and its content."""

    position: int
    content: bytes


class EventLog:
    """The log. Only one thread may call `append`; the other methods are thread-safe.

    Attributes:
        id: Unique ID of the log.
        end: Position of the last record on disk; 0 if there is none.
    """

    def __init__(self, folder: Path) -> None:
        """Open the log in `folder`, creating the folder if necessary.

        Raises:
            StageBusyError: another collector is writing to this log.
            SettingsError: the folder cannot be written, or its database is damaged.
        """
        self._path, self._news = folder / _FILE, threading.Condition()
        self._lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._writer = self._connect()
            self._writer.executescript(_OPEN)
            self._writer.execute("INSERT INTO log SELECT ? WHERE NOT EXISTS (SELECT * FROM log)", [uuid.uuid4().hex])
        except Timeout:
            raise StageBusyError(
                f"{folder}: another collector writes this log; stop it, or send events to its address"
            ) from None
        except (OSError, sqlite3.Error) as error:
            self._lock.release()
            raise SettingsError(
                f"{folder}: the collector's log must be a writable folder with an intact {_FILE} ({error}). Correct "
                f"the permissions or the disk, or set SHOPLENS_LAKE to another folder"
            ) from error
        self.id: str = self._writer.execute("SELECT id FROM log").fetchone()[0]
        last = self._writer.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
        self.end: int = last[0] if last else 0

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the log, so that another process can write to it."""
        self._writer.close()
        self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        # Autocommit: each statement is a transaction.
        return sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Yield a new connection, which sees everything committed so far; raise SQLite's errors as OSError."""
        try:
            with closing(self._connect()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error), str(self._path)) from error

    @property
    def begin(self) -> int:
        """Position before the first record that is still kept."""
        with self._connection() as connection:
            first = connection.execute("SELECT before FROM batches ORDER BY last LIMIT 1").fetchone()
        return first[0] if first else self.end

    def append(self, contents: list[bytes]) -> int:
        """Write records, one line each, as one batch; return the position of the last once all are on disk.

        Raises:
            OSError: the disk is full or cannot be written; the log is unchanged.
            ValueError: there are no records, or one contains a line break.
        """
        content, last = b"\n".join(contents), self.end + len(contents)
        if content.count(b"\n") != len(contents) - 1:
            raise ValueError(f"contents: each of the {len(contents)} must be one line; escape its line breaks")
        row = (last, self.end, time.time(), zlib.crc32(content), content)
        try:
            self._writer.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error), str(self._path)) from error
        with self._news:
            self.end = last
            self._news.notify_all()
        return last

    def wait(self, position: int, seconds: float) -> None:
        """Wait until there are records after `position`, or until the timeout."""
        with self._news:
            self._news.wait_for(lambda: self.end > position, seconds)

    def read(self, position: int, max_bytes: int, last: int | None = None) -> tuple[list[Record], int]:
        """Return the batches that end after `position`, and the position of their last record.

        Args:
            position: Position to read after; 0 is the beginning.
            max_bytes: Reading ends with the batch that reaches it.
            last: Position of the last record to read; by default the end.

        Raises:
            OSError: the database cannot be read.
            SettingsError: a batch on disk is corrupt.
        """
        records: list[Record] = []
        end, size = self.end if last is None else min(last, self.end), 0
        with self._connection() as connection:
            for batch_end, before, crc, content in connection.execute(_READ, [position, end]):
                lines = content.split(b"\n")
                if zlib.crc32(content) != crc or len(lines) != batch_end - before:
                    raise SettingsError(_DAMAGED.format(path=self._path, first=before + 1, last=batch_end))
                records += map(Record, range(before + 1, batch_end + 1), lines)
                size += len(content)
                if size >= max_bytes:
                    return records, batch_end
        return records, end

    def drop(self, before: int, older_than: float) -> None:
        """Delete the batches up to position `before` that were written before the time `older_than`.

        Raises:
            OSError: the disk is full or cannot be written; a later call deletes the remaining records.
        """
        with self._connection() as connection:
            while connection.execute(_DROP, [before, _DROPPED_AT_ONCE, older_than]).rowcount:
                pass
            while connection.execute("PRAGMA freelist_count").fetchone()[0] > _FREE_PAGES:
                # executescript, because `execute` stops after the first page
                connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
