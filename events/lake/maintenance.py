"""Maintenance of a lake's tables: compact small files, delete old ones."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl
from deltalake import DeltaTable, Transaction

from events.lake.known_ids import KnownIds
from events.lake.table import (
    EVENTS,
    STORE_ERRORS,
    Actions,
    Lake,
    Place,
    added_files,
    clear_errors,
    commit,
    removed,
)

REWRITES = "shoplens:rewrites"
"""The transaction ID that compactions and rewrites share: Delta does not notice that files to be replaced are replaced
already by a compaction (whose actions carry `dataChange: false`), and would keep their rows twice."""

GRACE_HOURS = 24  # how long readers of old versions, and writers, have to finish
_COMPACT_EVERY, _LARGE_EVERY, _VACUUM_EVERY = 32, 1024, 4096  # versions
_SMALL, _LARGE = 8 << 20, 64 << 20  # bytes of a merged file; a day is rewritten often only while it is small
_log = logging.getLogger(__name__)


def maintain(lake: Lake, version: int) -> None:
    """Compact and vacuum every few versions; failures are only logged, because the batch is already committed."""
    if version % _COMPACT_EVERY:
        return
    try:
        compact(lake, _SMALL if version % _LARGE_EVERY else _LARGE)
        if version % _VACUUM_EVERY == 0:
            vacuum(lake)
    except STORE_ERRORS as error:
        _log.warning("lake %s: not compacted or vacuumed at version %d, tried later: %s", lake.name, version, error)


def compact(lake: Lake, target_size: int = _LARGE) -> None:
    """Merge small files of each table, and of each day of events, into files of about `target_size` bytes.

    `DeltaTable.optimize` is not used because it ignores `app_transactions`: two concurrent runs would both commit and
    duplicate the rows.

    Raises:
        CommitFailedError: another writer compacted or rewrote the same table; its files are kept.
    """
    for name, table in lake.tables().items():
        if name == EVENTS:
            KnownIds(lake, table).catch_up()  # while the files that were added are still there
        actions: Actions = []
        for day, files in _mergeable(table, target_size):
            rows = pl.concat([lake.read(f"{name}/{file['path']}") for file in files], how="diagonal")
            actions += [replace(lake.write(name, rows, "rewritten", day), data_change=False)]
            actions += [removed(file, data_change=False) for file in files]
        if actions:
            commit(table, actions, [Transaction(REWRITES, table.version())])


def _mergeable(table: DeltaTable, target_size: int) -> Iterator[tuple[date | None, list[dict[str, Any]]]]:
    """Yield (day, files) for each group of two or more files to merge; the day is None for unpartitioned tables."""
    by_day: dict[date | None, list[dict[str, Any]]] = {}
    for file in added_files(table).sort("modification_time", "path").iter_rows(named=True):
        if file["size_bytes"] < target_size:
            by_day.setdefault(file.get("partition.day"), []).append(file)
    for day, small in by_day.items():
        groups, size = [list[dict[str, Any]]()], 0
        for file in small:
            if size + file["size_bytes"] > target_size and len(groups[-1]) > 1:
                groups, size = [*groups, []], 0
            groups[-1].append(file)
            size += file["size_bytes"]
        yield from ((day, files) for files in groups if len(files) > 1)


def vacuum(lake: Lake, grace_hours: int = GRACE_HOURS, *, full: bool = True) -> int:
    """Delete files that no version from the last hours references; return how many were deleted.

    Args:
        lake: The lake.
        grace_hours: Age in hours up to which versions are kept.
        full: Whether to delete files that no version ever referenced, too: killed writers left them, or other writers
            are about to commit them.
    """
    options: dict[str, Any] = {"dry_run": False, "enforce_retention_duration": False, "full": full}
    return sum(len(table.vacuum(grace_hours, **options)) for table in lake.tables().values())


def vacuum_lake(place: Place) -> int:
    """Delete the files that no version from the last day references; return how many were deleted.

    Raises:
        SourceError: there is no lake, or its files cannot be deleted.
    """
    lake = Lake(place)
    lake.events()
    with clear_errors(lake.name):
        return vacuum(lake)
