"""The content of an online store, read past our own code; and one digest of it, equal for equal content anywhere."""

import hashlib
import sqlite3
from contextlib import closing
from typing import Any

from features.online_stores.rows import RowStore
from features.online_stores.sqlite_rows import SqliteRows
from features.store import open_rows
from shoplens.settings import Settings


def stored_rows(rows: RowStore) -> list[tuple[str, str, int, bytes]]:
    """Return view, key, event time and encoded features of all rows, sorted."""
    if isinstance(rows, SqliteRows):
        with closing(sqlite3.connect(rows._path)) as connection:
            return connection.execute("SELECT * FROM rows ORDER BY view, key").fetchall()
    client, prefix = rows._client, rows._prefix + b"view:"  # type: ignore[attr-defined]
    found: list[Any] = []
    for name in {name for name in client.scan_iter() if name.startswith(prefix)}:
        view, _, key = name.removeprefix(prefix).decode().partition(":")
        value = client.get(name)
        found.append((view, key, int.from_bytes(value[:8], "big", signed=True), value[8:]))
    return sorted(found)


def store_digest(settings: Settings) -> str:
    """Return a digest of views, rows and live events, to the bit; the order of writing is not part of it."""
    with closing(open_rows(settings)) as rows:
        content = [sorted(rows.views().items()), stored_rows(rows), list(rows.live())]
    return hashlib.sha256(repr(content).encode()).hexdigest()
