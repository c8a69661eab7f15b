"""One ingest undone, so that its files can be ingested again through a corrected mapping."""

from typing import Any

import polars as pl
from deltalake import Transaction
from deltalake.transaction import AddAction, RemoveAction

from events.lake.commit import commit_account, new_account, new_batch, repair
from events.lake.known_ids import KnownIds
from events.lake.maintenance import REWRITES, without
from events.lake.snapshot import Snapshot
from events.lake.status import history_line
from events.lake.table import EVENTS, Place, clear_errors, retried
from shoplens.errors import SourceError


def revert(place: Place, batch: str) -> int:
    """Take the events, side rows and quarantined rows of one batch out of a lake; return how many events those were.

    Args:
        place: The lake, a folder or an object-store URL.
        batch: The ID of the batch, as `shoplens lake status` lists it.

    Raises:
        SourceError: there is no such batch, or later batches dropped duplicates of it, which are reverted first.
    """
    rewritten: int | None = -1
    actions: list[AddAction | RemoveAction] = []
    count, days = 0, list[str]()

    def attempt() -> int:
        nonlocal rewritten, actions, count, days
        snapshot = Snapshot(place)
        lake, events = snapshot.lake, snapshot.events
        row = _revertible(snapshot, batch)
        repair(lake, events)
        newest = events.transaction_version(REWRITES)
        if newest != rewritten:  # else only appends were first: the files are as they were
            rewritten = newest
            KnownIds(lake, events).catch_up()
            actions, count, days = without(lake, EVENTS, events, "batch", lambda values: values == batch)
        account = new_account(
            events,
            batch=new_batch(),
            inputs=f"revert:{batch}",
            mapping="revert",
            days=days,
            late_days=days,
            reverts=batch,
        )
        # 0: the lake does not hold these inputs any more, and takes them again.
        freed = [Transaction(row["inputs"], 0), Transaction(REWRITES, events.version())]
        commit_account(lake, events, account, actions, freed)
        return count

    with clear_errors(str(place)):
        return retried(str(place), attempt)


def _revertible(snapshot: Snapshot, batch: str) -> dict[str, Any]:
    """Return the account of a batch; raise a SourceError where it cannot be reverted."""
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
