"""Remove one person, or one ingest, from a lake.

Files with such rows are rewritten without them, which does not block appends. For a person, this removes events, rows
of side tables and quarantined rows that name them; items stay. Then all files that no current version references are
deleted. Ingesting a file that still contains the person adds them again, so remove them from the source first. A
reverted ingest can be repeated, for example with a corrected mapping.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from deltalake import Transaction

from events.lake import Place, Snapshot
from events.lake.commit import commit_batch, new_batch, repair
from events.lake.known_ids import KnownIds
from events.lake.maintenance import REWRITES, vacuum
from events.lake.snapshot import history_line
from events.lake.table import (
    EVENTS,
    QUARANTINE,
    SCHEMAS,
    Actions,
    Lake,
    added_files,
    again_if_erased,
    clear_errors,
    commit,
    removed,
    retried,
)
from shoplens.errors import SourceError

_OTHERS = tuple(name for name, schema in SCHEMAS.items() if name not in (EVENTS, QUARANTINE) and "user_id" in schema)
Gone = Callable[[pl.Series], pl.Series]  # values of a column -> mask of the rows to remove


@dataclass
class LakeErasure:
    """What was removed from a lake.

    Attributes:
        events: Number of events.
        days: Days of these events.
        sides: Number of rows in each side table.
        quarantined: Number of quarantined rows that named the person.
        files: Number of deleted files.
        resumed: Whether this run completed an interrupted erasure of the person.
    """

    events: int = 0
    days: list[str] = field(default_factory=list)
    sides: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    files: int = 0
    resumed: bool = False

    @property
    def found(self) -> bool:
        """Whether the lake held anything about the person, or an interrupted run had started to remove it."""
        return self.resumed or bool(self.events or sum(self.sides.values()) or self.quarantined)


def _is_word(text: str, user_id: str) -> bool:
    return user_id in re.split(r"[\s,;|\"']+", text)


def _names(content: Any, user_id: str) -> bool:
    """Return whether a JSON value is the ID or holds it; a malformed line holds it as a word."""
    if isinstance(content, dict) and set(content) == {"line", "text", "remedy"}:
        return _is_word(str(content["text"]), user_id)
    if isinstance(content, dict):
        return any(_names(one, user_id) for one in content.values())
    if isinstance(content, list):
        return any(_names(one, user_id) for one in content)
    if content is None or isinstance(content, bool):
        return False
    return user_id in (text := str(content).strip(), re.sub(r"\.0+$", "", text))  # pandas writes IDs as floats


def _raw_names(raw: str, user_id: str) -> bool:
    """Return whether a raw row names the person: as a JSON value, or as a word if the row is not JSON."""
    if user_id not in raw and json.dumps(user_id)[1:-1] not in raw:
        return False
    try:
        return _names(json.loads(raw), user_id)
    except ValueError:
        return _is_word(raw, user_id)


def _rewritten(lake: Lake, name: str, files: pl.DataFrame, column: str, gone: Gone) -> tuple[Actions, int, list[str]]:
    """Rewrite files of a table without the rows to remove.

    Returns:
        The actions to commit, the number of removed rows, and their days.
    """
    actions: Actions = []
    count, days = 0, set()
    for file in files.iter_rows(named=True):
        path, day = f"{name}/{file['path']}", file.get("partition.day")
        values = lake.read(path, [column])
        if not values.width:
            continue  # the column was added to the table later
        mask = gone(values[column]).fill_null(value=False)
        if not mask.any():
            continue
        kept = lake.read(path).filter(~mask)
        actions += [lake.write(name, kept, "rewritten", day)] if kept.height else []
        actions.append(removed(file, data_change=True))
        count += int(mask.sum())
        days |= {str(day)} if day else set()
    return actions, count, sorted(days)


def _take_out(lake: Lake, name: str, column: str, gone: Gone, reverts: str | None = None) -> tuple[int, list[str]]:
    """Remove the rows that `gone` selects by a column, in one commit; return their number and their days.

    Args:
        lake: The lake.
        name: The table.
        column: The column that selects rows.
        gone: Returns the mask of the rows to remove.
        reverts: ID of the batch that is reverted, if any.
    """
    rewrites: int | None = -1
    found: tuple[Actions, int, list[str]] = [], 0, []
    scanned = set[str]()

    def attempt() -> None:
        nonlocal rewrites, found, scanned
        table = lake.find(name)
        if table is None:
            return
        shared = [Transaction(REWRITES, table.version())]
        if reverts:  # 0: the lake no longer holds these inputs, and accepts them again
            shared.append(Transaction(_revertible(Snapshot(lake.name, table.version()), reverts)["inputs"], 0))
        if name == EVENTS:
            repair(lake, table)
        if (newest := table.transaction_version(REWRITES)) != rewrites:  # else other writers only appended
            if name == EVENTS:
                KnownIds(lake, table).catch_up()  # while the files that were added are still there
            rewrites, found, scanned = newest, ([], 0, []), set()
        files = added_files(table).filter(~pl.col("path").is_in(list(scanned)))
        with again_if_erased(lake, name, table):
            more, count, more_days = _rewritten(lake, name, files, column, gone)
        scanned |= set(files["path"])
        actions, days = found[0] + more, sorted({*found[2], *more_days})
        found = actions, found[1] + count, days
        if reverts:
            account = {"inputs": f"revert:{reverts}", "mapping": "revert", "reverts": reverts, "late_days": days}
            commit_batch(lake, table, actions, shared, **account, days=days)
        elif actions and name == EVENTS:
            commit_batch(lake, table, actions, shared, inputs=f"erase:{new_batch()}", mapping="erase", days=days)
        elif actions:
            commit(table, actions, shared)

    retried(lake.name, attempt)
    return found[1:]


def erase_from_lake(place: Place, user_id: str) -> LakeErasure:
    """Remove a person from a lake and delete every file that held their data; an interrupted run can be repeated.

    A reader of an older version gets an error that asks them to read the newest one.

    Args:
        place: A folder or an object-store URL that holds a lake.
        user_id: The person's `user_id` in the contract.

    Returns:
        What was removed; `found` is False if the lake held nothing about this person.

    Raises:
        SourceError: there is no lake, one of its files cannot be read, or other writers won every retry.
    """

    def is_theirs(users: pl.Series) -> pl.Series:
        return users.cast(pl.String) == user_id

    def names_them(raws: pl.Series) -> pl.Series:
        return pl.Series([raw is not None and _raw_names(raw, user_id) for raw in raws], dtype=pl.Boolean)

    lake = Snapshot(place).lake
    with clear_errors(lake.name):
        # A hash, because the ID itself must not remain; removed last, so that an interrupted run is detected.
        mark = f"{hashlib.sha256(user_id.encode()).hexdigest()}.erasing"
        done = LakeErasure(resumed=mark in lake.names("pending"))
        lake.write_bytes(f"pending/{mark}", b"")
        done.events, done.days = _take_out(lake, EVENTS, "user_id", is_theirs)
        for name in _OTHERS:
            if count := _take_out(lake, name, "user_id", is_theirs)[0]:
                done.sides[name] = count
        done.quarantined, _ = _take_out(lake, QUARANTINE, "raw", names_them)
        done.files = vacuum(lake, 0, full=False) + vacuum(lake)
        lake.delete(f"pending/{mark}")
    return done


def revert(place: Place, batch: str) -> int:
    """Remove the events, side rows and quarantined rows of one batch from a lake; return the number of events.

    Args:
        place: The lake, a folder or an object-store URL.
        batch: The ID of the batch, as `shoplens lake status` lists it.

    Raises:
        SourceError: there is no such batch, or later batches dropped duplicates of it and must be reverted first.
    """
    lake = Snapshot(place).lake
    with clear_errors(lake.name):
        return _take_out(lake, EVENTS, "batch", lambda batches: batches == batch, reverts=batch)[0]


def _revertible(snapshot: Snapshot, batch: str) -> dict[str, Any]:
    """Return the account of a batch; raise a SourceError if it cannot be reverted."""
    found = snapshot.accounts.filter(pl.col("batch") == batch)
    if found.is_empty():
        raise SourceError(
            f"BATCH: must be a batch that the lake {snapshot.name} holds; received {batch!r}. `shoplens lake status` "
            f"lists them"
        )
    later = snapshot.accounts.filter(pl.col("duplicates_of").list.contains(batch), pl.col("batch") != batch)
    if later.height:
        lines = "; ".join(history_line(row) for row in later.iter_rows(named=True))
        raise SourceError(
            f"BATCH: later batches dropped events that {batch} holds too, and would lack them; received {batch!r}. "
            f"Revert these first: {lines}"
        )
    return found.row(0, named=True)
