"""Upkeep of a lake's tables: small files merged, old files deleted, rows taken out."""

import logging
import time
import uuid
from collections.abc import Callable
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from events.lake.known_ids import KnownIds
from events.lake.table import EVENTS, SCHEMAS, Lake, Place, clear_errors, existing

REWRITES = "shoplens:rewrites"
"""The transaction ID of compactions and rewrites: Delta lets a rewrite commit although a compaction replaced its files,
which would double their rows, unless both carry one."""

GRACE_HOURS = 24  # a reader of an old version, or a writer, has as long to finish
_COMPACT_EVERY, _LARGE_EVERY, _VACUUM_EVERY = 32, 1024, 4096  # versions
_SMALL, _LARGE = 8 << 20, 128 << 20  # bytes of a merged file; a day is rewritten often only while it is small
_log = logging.getLogger(__name__)


def maintain(lake: Lake, version: int) -> None:
    """Compact and vacuum now and then; a failure is logged, for the batch before it is committed."""
    if version % _COMPACT_EVERY:
        return
    try:
        compact(lake, _SMALL if version % _LARGE_EVERY else _LARGE)
        if version % _VACUUM_EVERY == 0:
            vacuum(lake)
    except (DeltaError, OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        _log.warning("lake %s: not compacted or vacuumed at version %d, tried later: %s", lake.name, version, error)


def compact(lake: Lake, target_size: int = _LARGE) -> None:
    """Merge small files of each table, and of each day of events."""
    for name in SCHEMAS:
        table = lake.find(name)
        if table is None:
            continue
        if name == EVENTS:
            KnownIds(lake, table).catch_up(table)  # while the files that were added are still there
        table.optimize.compact(target_size=target_size, commit_properties=rewrites(table), max_concurrent_tasks=2)


def rewrites(table: DeltaTable) -> CommitProperties:
    """Return the properties of a commit that replaces files of a table."""
    return CommitProperties(app_transactions=[Transaction(REWRITES, table.version())])


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
        with lake.files.open_input_file(f"{name}/{path}") as stream, pq.ParquetFile(stream) as source:
            if column not in source.schema_arrow.names:
                continue  # the column was added to the table later
            mask = gone(pl.Series(source.read([column])[column])).fill_null(value=False)
            if not mask.any():
                continue
            kept = pl.DataFrame(source.read()).filter(~mask)
        partition: dict[str, str | None] = {"day": str(day)} if isinstance(day, date) else {}
        if kept.height:
            target = f"day={day}/" if partition else ""
            actions.append(lake.write_as(name, f"{target}rewritten-{uuid.uuid4().hex[:12]}.parquet", kept, partition))
        actions.append(RemoveAction(path, True, int(time.time() * 1000), file["size_bytes"], partition))
        count += int(mask.sum())
        days |= {str(day)} if partition else set()
    return actions, count, sorted(days)
