"""One person out of a lake: events, what the sources held about them, and quarantined rows that name them.

The files that hold such rows are written anew without them, which does not keep appends from committing; then all files
that no current version names are deleted. Items stay. Ingesting a file that still has the person adds them again: take
them out of the files first.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from deltalake import Transaction

from events.lake.commit import commit_account, new_account, new_batch, repair
from events.lake.known_ids import KnownIds
from events.lake.maintenance import REWRITES, vacuum, vacuum_replaced, without
from events.lake.snapshot import Snapshot
from events.lake.table import EVENTS, QUARANTINE, SCHEMAS, Lake, Place, clear_errors, commit, retried

_OTHERS = tuple(name for name, schema in SCHEMAS.items() if name not in (EVENTS, QUARANTINE) and "user_id" in schema)


@dataclass
class LakeErasure:
    """What was removed from a lake.

    Attributes:
        events: Rows of events.
        days: Days that had some.
        sides: Rows of users and campaigns, by table.
        quarantined: Quarantined rows that named the person.
        files: Files that were deleted.
        resumed: Whether an erasure of this person was killed before, and is completed now.
    """

    events: int = 0
    days: list[str] = field(default_factory=list)
    sides: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    files: int = 0
    resumed: bool = False

    @property
    def found(self) -> bool:
        """Whether the lake held anything of the person, or an earlier run that was killed had begun to remove it."""
        return self.resumed or bool(self.events or sum(self.sides.values()) or self.quarantined)


def _names(content: Any, user_id: str) -> bool:
    """Return whether a JSON value is the ID or holds it."""
    if isinstance(content, dict):
        return any(_names(one, user_id) for one in content.values())
    if isinstance(content, list):
        return any(_names(one, user_id) for one in content)
    return content is not None and not isinstance(content, bool) and str(content) == user_id


def _raw_names(raw: str, user_id: str) -> bool:
    """Return whether a row as it was read names the person; one that is no JSON does if the ID is one of its words."""
    if user_id not in raw and json.dumps(user_id)[1:-1] not in raw:
        return False
    try:
        return _names(json.loads(raw), user_id)
    except ValueError:
        return user_id in raw.replace(",", " ").replace(";", " ").replace("\t", " ").replace('"', " ").split()


def _take_out(lake: Lake, name: str, column: str, gone: Callable[[pl.Series], pl.Series]) -> tuple[int, list[str]]:
    """Commit a table without some rows; return how many those were, and their days."""

    def attempt() -> tuple[int, list[str]]:  # fails where a compaction replaces the files
        table = lake.find(name)
        if table is None:
            return 0, []
        if name == EVENTS:
            repair(lake, table)
            KnownIds(lake, table).catch_up()
        actions, count, days = without(lake, name, table, column, gone)
        guard = Transaction(REWRITES, table.version())
        if actions and name == EVENTS:
            batch = new_batch()
            account = new_account(table, batch=batch, inputs=f"erase:{batch}", mapping="erase", days=days)
            commit_account(lake, table, account, actions, [guard], exclusive=False)
        elif actions:
            commit(table, actions, [guard])
        return count, days

    return retried(lake.name, attempt)


def erase_from_lake(place: Place, user_id: str) -> LakeErasure:
    """Remove a person from a lake, and delete every file that held them; the next run completes a killed one.

    Whoever reads an older version meanwhile gets an error that asks to read the newest.

    Args:
        place: A folder or an object-store URL that holds a lake.
        user_id: Of the contract.

    Returns:
        What was removed; its `found` is false where the lake holds nothing of this person.

    Raises:
        SourceError: there is no lake, a file of it cannot be read, or other writers were always first.
    """
    lake = Snapshot(place).lake
    with clear_errors(lake.name):
        # A hash, for the person's ID must not stay; removed last, so that a killed run is seen.
        mark = f"{hashlib.sha256(user_id.encode()).hexdigest()}.erasing"
        done = LakeErasure(resumed=mark in lake.names("pending"))
        lake.write_bytes(f"pending/{mark}", b"")
        done.events, done.days = _take_out(lake, EVENTS, "user_id", lambda users: users == user_id)
        for name in _OTHERS:
            if count := _take_out(lake, name, "user_id", lambda users: users.cast(pl.String) == user_id)[0]:
                done.sides[name] = count
        done.quarantined, _ = _take_out(
            lake,
            QUARANTINE,
            "raw",
            lambda raws: pl.Series([raw is not None and _raw_names(raw, user_id) for raw in raws], dtype=pl.Boolean),
        )
        done.files = vacuum_replaced(lake) + vacuum(lake)
        lake.delete(f"pending/{mark}")
    return done
