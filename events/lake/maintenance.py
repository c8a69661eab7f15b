"""Upkeep of a lake's tables: small files merged, old files deleted, rows taken out."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from events.lake.known_ids import KnownIds
from events.lake.table import EVENTS, SCHEMAS, STORE_ERRORS, Lake, Place, clear_errors, commit, existing, partition_of

REWRITES = "shoplens:rewrites"
"""The transaction ID that compactions and rewrites share: Delta does not notice that files to be replaced are replaced
already by a compaction (whose actions carry `dataChange: false`), and would keep their rows twice."""

GRACE_HOURS = 24  # a reader of an old version, or a writer, has as long to finish
_COMPACT_EVERY, _LARGE_EVERY, _VACUUM_EVERY = 32, 1024, 4096  # versions
_SMALL, _LARGE = 8 << 20, 64 << 20  # bytes of a merged file; a day is rewritten often only while it is small
_log = logging.getLogger(__name__)


def maintain(lake: Lake, version: int) -> None:
    """Compact and vacuum now and then; a failure is logged, for the batch before it is committed."""
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

    Not by `DeltaTable.optimize`, which ignores `app_transactions`: of two at the same time both commit, which doubles
    the rows.

    Raises:
        CommitFailedError: another writer compacted or rewrote the same table; its files are kept.
    """
    for name in SCHEMAS:
        table = lake.find(name)
        if table is None:
            continue
        if name == EVENTS:
            KnownIds(lake, table).catch_up()  # while the files that were added are still there
        actions: list[AddAction | RemoveAction] = []
        for day, files in _mergeable(table, target_size):
            rows = pl.concat([_read(lake, f"{name}/{file['path']}") for file in files], how="diagonal")
            actions += [replace(lake.write(name, rows, "rewritten", day), data_change=False)]
            actions += [_removed(file, data_change=False) for file in files]
        if actions:
            commit(table, actions, [Transaction(REWRITES, table.version())])


def _mergeable(table: DeltaTable, target_size: int) -> Iterator[tuple[date | None, list[dict[str, Any]]]]:
    """Yield days with the files to merge into one, two or more each; without a day for a table without days."""
    files = pl.DataFrame(table.get_add_actions(flatten=True)).filter(pl.col("size_bytes") < target_size)
    by_day: dict[date | None, list[dict[str, Any]]] = {}
    for file in files.sort("modification_time", "path").iter_rows(named=True):
        by_day.setdefault(file.get("partition.day"), []).append(file)
    for day, small in by_day.items():
        size, merged = 0, list[dict[str, Any]]()
        for file in small:
            if size + file["size_bytes"] > target_size and len(merged) > 1:
                yield day, merged
                size, merged = 0, []
            merged.append(file)
            size += file["size_bytes"]
        if len(merged) > 1:
            yield day, merged


def _read(lake: Lake, path: str) -> pl.DataFrame:
    with lake.files.open(path) as stream, pq.ParquetFile(stream) as source:
        return pl.DataFrame(source.read())


def _removed(file: dict[str, Any], *, data_change: bool) -> RemoveAction:
    now, partition = int(time.time() * 1000), partition_of(file.get("partition.day"))
    return RemoveAction(file["path"], data_change, now, file["size_bytes"], partition)


def vacuum(lake: Lake, grace_hours: int = GRACE_HOURS) -> int:
    """Delete files that no version of the last `grace_hours` names; return how many."""
    deleted = 0
    for name in SCHEMAS:
        if (table := lake.find(name)) is not None:
            deleted += len(table.vacuum(grace_hours, dry_run=False, enforce_retention_duration=False, full=True))
    return deleted


def vacuum_lake(place: Place) -> int:
    """Delete files that no version of the last day names; return how many.

    Raises:
        SourceError: there is no lake, or its files cannot be deleted.
    """
    lake = existing(place)
    with clear_errors(lake.name):
        return vacuum(lake)


def vacuum_replaced(lake: Lake) -> int:
    """Delete at once the files that no current version names, but not those that writers are about to commit."""
    tables = [table for name in SCHEMAS if (table := lake.find(name)) is not None]
    return sum(len(table.vacuum(0, dry_run=False, enforce_retention_duration=False)) for table in tables)


def without(
    lake: Lake, name: str, table: DeltaTable, column: str, gone: Callable[[pl.Series], pl.Series]
) -> tuple[list[AddAction | RemoveAction], int, list[str]]:
    """Write the files of a table that hold some rows anew without them; commit the actions with `rewrites`.

    Args:
        lake: The lake.
        name: The table's name.
        table: The table, at the version that is rewritten.
        column: The column by which rows are chosen.
        gone: Returns for each value of the column whether its row is taken out.

    Returns:
        The actions, how many rows are taken out, and from which days.
    """
    actions: list[AddAction | RemoveAction] = []
    count, days = 0, set()
    for file in pl.DataFrame(table.get_add_actions(flatten=True)).iter_rows(named=True):
        path, day = file["path"], file.get("partition.day")
        with lake.files.open(f"{name}/{path}") as stream, pq.ParquetFile(stream) as source:
            if column not in source.schema_arrow.names:
                continue  # the column was added to the table later
            mask = gone(pl.Series(source.read([column])[column])).fill_null(value=False)
            if not mask.any():
                continue
            kept = pl.DataFrame(source.read()).filter(~mask)
        actions += [lake.write(name, kept, "rewritten", day)] if kept.height else []
        actions.append(_removed(file, data_change=True))
        count += int(mask.sum())
        days |= {str(day)} if day else set()
    return actions, count, sorted(days)
