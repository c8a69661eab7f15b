"""Lakes of before there were versions: one Parquet file a day and a table, changed under a lock by renames.

    FOLDER/.lock                 held while the folder is changed
    FOLDER/.append.tmp/          the changed files while they are written
    FOLDER/.append.commit/       the same once they are whole: the rename was the moment of the change

Such a lake becomes one of versions when it is opened: its files stay where they are and are what the first version
names; only the index, the quarantine and the accounts are written anew. Killed at any moment, it is done again.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from events.contract import QUARANTINE_SCHEMA
from events.lake.index import INDEX, INDEX_SCHEMA, index_rows
from events.lake.manifest import Day, File, Manifest, newest, publish
from events.lake.sides import ACCOUNTS, CONTENT, account_row, with_quarantined
from events.lake.store import LocalStore
from events.lake.tables import GroupedWriter, new_path, read_file, write_file
from events.readers import first_line
from shoplens.errors import SourceError
from shoplens.files import read_json

_LOCK = ".lock"
_WORK = ".append.tmp"
_COMMITTED = ".append.commit"
# Files of such a lake that no version names once it has become one of versions.
LEFT = ("accounts.json", "quarantine.parquet", "items.parquet", _LOCK)


def is_ours(name: str) -> bool:
    """Say whether a file or folder of that name is left by a write that was killed."""
    return name in (_LOCK, _WORK, _COMMITTED, "live") or (name.startswith(".") and name.endswith(".tmp"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder alone, in the state after its last whole change; wait while another process holds it."""
    try:
        stream = (folder / _LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{folder}: must be writable, for its lock; {error.strerror}. Correct its rights") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _recover(folder)
        yield


def _recover(folder: Path) -> None:
    """Move what a killed process had committed into place, and drop what it had not."""
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    committed = folder / _COMMITTED
    if not committed.exists():
        return
    for path in sorted(p for p in committed.rglob("*") if p.is_file()):
        place = folder / path.relative_to(committed)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(committed)


def _file(folder: Path, path: Path) -> File:
    try:
        rows = pq.read_metadata(path).num_rows
    except (OSError, ValueError) as error:  # PyArrow's own errors derive from these
        raise SourceError(f"{path}: cannot be read as parquet: {first_line(error)}. Restore it") from error
    return File(path=path.relative_to(folder).as_posix(), rows=rows, bytes=path.stat().st_size)


def _sides(folder: Path) -> dict[str, File]:
    places = {name: folder / f"{name}.parquet" for name in ("item_table", CONTENT, "users", "campaigns")}
    # A lake of before there were two files of items has all it knows of them in the one.
    if not places["item_table"].exists():
        places["item_table"] = folder / "items.parquet"
    return {name: _file(folder, place) for name, place in places.items() if place.exists()}


def _index(store: LocalStore, days: dict[str, Day]) -> tuple[File, ...]:
    path = new_path(INDEX)
    with store.new(path) as place:
        writer = GroupedWriter(place, INDEX_SCHEMA, 1 << 20, "id")
        for day in days.values():
            for file in day.files:
                writer.add(index_rows(read_file(store, file, ["event_id", "event_time"])))
        writer.close()
        size = place.stat().st_size
    return (File(path=path, rows=writer.rows, bytes=size),) if writer.rows else ()


def _accounts(store: LocalStore) -> tuple[File, ...]:
    path = store.folder / "accounts.json"
    if not path.exists():
        return ()
    try:
        kept: Any = read_json(path)
    except ValueError as error:
        raise SourceError(f"{path}: must be JSON; {first_line(error)}. Restore it, or make a new lake") from error
    rows = [account_row(entry["mapping"], entry["inputs"], entry["tables"], []) for entry in kept]
    return (write_file(store, ACCOUNTS, pl.concat(rows)),) if rows else ()


def _quarantine(store: LocalStore) -> tuple[File, ...]:
    path = store.folder / "quarantine.parquet"
    if not path.exists():
        return ()
    rows = read_file(store, _file(store.folder, path))
    nothing = pl.DataFrame(schema={name: QUARANTINE_SCHEMA[name] for name in ("table", "row")})
    return with_quarantined(store, (), [rows], nothing)


def migrate(store: LocalStore) -> None:
    """Make the first version of a lake of before there were versions, if it has none."""
    with _locked(store.folder):
        if newest(store).version:
            return
        days = {
            path.parent.name.removeprefix("event_date="): Day(changed=1, files=(_file(store.folder, path),))
            for path in sorted((store.folder / "events").glob("event_date=*/part.parquet"))
        }
        first = Manifest().next(
            days=days,
            index=_index(store, days),
            sides=_sides(store.folder),
            quarantine=_quarantine(store),
            accounts=_accounts(store),
        )
        if first is not None:
            publish(store, first)
