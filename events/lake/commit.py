"""Commit batches to the lake atomically, with any number of concurrent writers.

A single Delta commit to `events` commits a batch. Before it, the writer writes the rows of the other tables, which
readers ignore until the batch is in `accounts`, and the account itself, to `LAKE/pending/BATCH.parquet`. The commit
carries `txn(inputs, number of the batch)`, which survives Delta's log cleanup: a pending account is valid if and only
if `transaction_version(inputs)` of the events equals its number. After the commit, the account is copied to `accounts`;
if the writer is killed first, readers find it in `pending` and the next writer copies it.

Concurrency is optimistic: a batch becomes the version after the one that was read, or fails with a CommitFailedError.
The writer then only checks whether others have since added any of its IDs, and retries with the same files.
"""

import contextlib
import io
import json
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import polars as pl
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from events.account import TableAccount, count_reasons
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.identity import OTHER_CONTENT, content_hash
from events.lake.known_ids import Ids, KnownIds, hashed
from events.lake.maintenance import GRACE_HOURS, maintain
from events.lake.schema_changes import Sources, changes, known_sources, merged_sources
from events.lake.table import (
    ACCOUNTS,
    CONTENT,
    EVENTS,
    QUARANTINE,
    SCHEMAS,
    STORE_ERRORS,
    Actions,
    Lake,
    Place,
    added_files,
    again_if_erased,
    clear_errors,
    commit,
    created,
    retried,
)
from events.mapping import Mapping
from shoplens.errors import SourceError

LIVE = "live"  # name of the mapping and of the table of live events
Chunks = Callable[[], Iterable[pl.DataFrame]]
_log = logging.getLogger(__name__)
_LONGEST = GRACE_HOURS * 1800.0  # seconds; half the time after which a vacuum deletes unreferenced files
_ABANDONED = 24 * 3600.0  # seconds after which the writer of a pending account is considered dead


@dataclass(frozen=True)
class Incoming:
    """A batch to append to a lake.

    Attributes:
        mapping: The name of the mapping.
        inputs: Identifies the content of the batch; the same inputs are committed only once.
        accounts: Accounts by file label; events that the lake already holds still count as accepted.
        events: Returns the events in chunks on every call: EVENT_SCHEMA and `table`, one row per ID.
        quarantined: Returns the quarantined rows (QUARANTINE_SCHEMA) in chunks.
        sides: Rows of the side tables and of `item_content`, by table.
        sources: Columns of the files.
        replayed: Batch, table and row of the quarantined rows that this batch replaces.
    """

    mapping: str
    inputs: str
    accounts: dict[str, TableAccount]
    events: Chunks
    quarantined: Chunks
    sides: dict[str, pl.DataFrame] = field(default_factory=dict)
    sources: Sources = field(default_factory=dict)
    replayed: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Account:
    """A row of `accounts` (`events.lake.table.ACCOUNT_SCHEMA`)."""

    batch: str
    inputs: str
    mapping: str
    version: int
    committed_at: datetime
    tables: str = "{}"
    days: list[str] = field(default_factory=list)
    late_days: list[str] = field(default_factory=list)
    duplicates_of: list[str] = field(default_factory=list)
    reverts: str | None = None
    replayed: list[dict[str, Any]] = field(default_factory=list)
    sources: str | None = None

    def frame(self) -> pl.DataFrame:
        """Return the account as one row of the table."""
        return pl.DataFrame([asdict(self)], schema=SCHEMAS[ACCOUNTS])

    @property
    def own(self) -> tuple[str, int]:
        """The transaction of the batch: its inputs, and the batch as a number."""
        return self.inputs, int(self.batch, 16)

    def is_in(self, events: DeltaTable) -> bool:
        """Return whether a version of the events holds the batch."""
        inputs, number = self.own
        return events.transaction_version(inputs) == number

    def table_accounts(self, *, again: bool = False) -> dict[str, TableAccount]:
        """Return the account of each table; with `again`, accepted rows are counted as duplicates."""
        accounts = {table: TableAccount(**one) for table, one in json.loads(self.tables).items()}
        return {table: one.moved(one.accepted, None) for table, one in accounts.items()} if again else accounts


def new_batch() -> str:
    """Return the ID of a new batch: a positive number of 62 bits, in hexadecimal."""
    return f"{random.SystemRandom().getrandbits(62) | 1:016x}"


def moved(accounts: dict[str, TableAccount], tables: pl.Series, reason: str | None) -> dict[str, TableAccount]:
    """Return the accounts with the accepted rows in `tables` moved to a reason, or to the duplicates if it is None."""
    counts = dict(tables.value_counts().iter_rows())
    return {table: account.moved(counts.get(table, 0), reason) for table, account in accounts.items()}


def as_quarantine(clashing: pl.DataFrame) -> pl.DataFrame:
    """Return events whose ID is already known with different content as QUARANTINE_SCHEMA, with their `table`."""
    return clashing.select(
        "table",
        pl.lit(None, dtype=pl.Int64).alias("row"),
        pl.lit([OTHER_CONTENT], dtype=pl.List(pl.String)).alias("reasons"),
        pl.struct(list(EVENT_SCHEMA)).struct.json_encode().alias("raw"),
    )


def split_known(chunk: pl.DataFrame, index: KnownIds) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split a chunk into new events, exact duplicates of the lake's events, and events with conflicting IDs.

    The second and third frames name the batch that holds the ID in `held_by`.
    """
    known = index.known_events(chunk).rename({"batch": "held_by"})
    met = chunk.join(known, on="event_id", how="inner", maintain_order="left")
    new = chunk.join(known, on="event_id", how="anti", maintain_order="left")
    return new, met.filter("same"), met.filter(~pl.col("same"))


class _Written:
    """The files of a batch, written but not yet committed."""

    def __init__(self, lake: Lake, index: KnownIds, incoming: Incoming) -> None:
        """Write the new events, and the batch's rows of all other tables."""
        self.started, self.batch, self.accounts = time.time(), new_batch(), incoming.accounts
        self.actions: Actions = []
        self._days: set[str] = set()
        self._duplicates_of: set[str] = set()
        self._ids: list[Ids] = []
        clashing = [
            pl.DataFrame(schema={"event_id": pl.String, "row": pl.Struct(QUARANTINE_SCHEMA)}),
            *(self._write_events(lake, index, chunk) for chunk in incoming.events() if chunk.height),
        ]
        conflicts = pl.concat(clashing)
        for rows in chain(incoming.quarantined(), [conflicts["row"].struct.unnest()]):
            lake.append(QUARANTINE, rows.select(list(QUARANTINE_SCHEMA)), self.batch)
        for name, rows in incoming.sides.items():
            # Item content of quarantined events is not trusted.
            believed = rows.join(conflicts, on="event_id", how="anti") if name == CONTENT else rows
            lake.append(name, believed, self.batch)

    def _write_events(self, lake: Lake, index: KnownIds, chunk: pl.DataFrame) -> pl.DataFrame:
        """Write the new events; return the IDs of the conflicting ones, each with its quarantine `row`."""
        new, repeated, clashing = split_known(chunk, index)
        self.accounts = moved(moved(self.accounts, repeated["table"], None), clashing["table"], OTHER_CONTENT)
        self._duplicates_of.update(repeated["held_by"], clashing["held_by"])
        self._ids.append(hashed(new["event_id"]))
        dated = new.select(
            *EVENT_SCHEMA, pl.lit(self.batch).alias("batch"), pl.col("event_time").dt.date().alias("_day")
        )
        for (day,), rows in dated.partition_by("_day", as_dict=True, include_key=False).items():
            self.actions.append(lake.write(EVENTS, rows.sort("event_time", "event_id"), self.batch, day))
            self._days.add(str(day))
        return clashing.select("event_id", as_quarantine(clashing).to_struct("row"))

    def is_outdated(self, events: DeltaTable, index: KnownIds, since: int) -> bool:
        """Return whether others have since added our IDs, or reverted a batch whose events we dropped as duplicates."""
        reverted = any(events.transaction_version(f"revert:{batch}") is not None for batch in self._duplicates_of)
        return reverted or any(True for ids in self._ids for _ in index.find(ids, since))

    def columns(self, events: DeltaTable) -> dict[str, Any]:
        """Return the columns of the batch's account, for a commit on top of `events`."""
        held = added_files(events)["partition.day"].max()
        return {
            "batch": self.batch,
            "tables": {table: asdict(account) for table, account in self.accounts.items()},
            "days": sorted(self._days),
            "late_days": sorted(day for day in self._days if held is not None and day < str(held)),
            "duplicates_of": sorted(self._duplicates_of),
        }


def commit_batch(
    lake: Lake, events: DeltaTable, actions: Actions, transactions: Iterable[Transaction] = (), **columns: Any
) -> Account:
    """Commit a batch as the next version of the events, and record its account; return the account.

    Args:
        lake: The lake.
        events: The table of events, at the version that was read.
        actions: The files to add and remove.
        transactions: Additional transactions of the commit.
        columns: Columns of the account except version and commit time; `batch` defaults to a new ID.

    Raises:
        CommitFailedError: another writer committed first; nothing was committed.
    """
    columns = {"batch": new_batch(), "tables": {}} | columns
    columns["tables"] = json.dumps(columns["tables"], ensure_ascii=False)
    account = Account(version=events.version() + 1, committed_at=datetime.now(UTC), **columns)
    pending, content = f"pending/{account.batch}.parquet", io.BytesIO()
    account.frame().write_parquet(content)
    lake.write_bytes(pending, content.getvalue())
    summary = {name: columns[name] for name in ("batch", "mapping", "reverts") if columns.get(name)}
    try:
        commit(events, actions, [Transaction(*account.own), *transactions], summary, retries=0)
    except CommitFailedError:
        if not account.is_in(lake.open(EVENTS)):  # else the commit succeeded but the response was lost
            lake.delete(pending)
            raise
    try:
        record(lake, account)
    except (*STORE_ERRORS, SourceError) as error:
        # The batch is committed: readers find its account in `pending`, and the next writer records it.
        _log.warning("lake %s: batch %s is committed, its account will follow: %s", lake.name, account.batch, error)
    return account


def record(lake: Lake, account: Account) -> None:
    """Copy the account of a committed batch from `pending` to `accounts`, unless it is there already."""
    with contextlib.suppress(FileNotFoundError):  # already cleaned up, so it was synced long ago
        lake.sync(f"{EVENTS}/_delta_log/{account.version:020}.json")

    def attempt() -> None:  # fails if another writer records it, or if the table gains a column
        table = lake.open(ACCOUNTS)
        if table.transaction_version(account.batch) is None:
            commit(table, [lake.write(ACCOUNTS, account.frame(), account.batch)], [Transaction(account.batch, 1)])

    retried(lake.name, attempt)
    lake.delete(f"pending/{account.batch}.parquet")


def pending_accounts(lake: Lake) -> list[Account]:
    """Return the accounts of commits that are in progress, not yet recorded, or failed."""
    found = []
    for name in lake.names("pending"):
        if name.endswith(".parquet"):
            with contextlib.suppress(FileNotFoundError):  # recorded in the meantime
                row = pl.read_parquet(lake.files.cat_file(f"pending/{name}")).row(0, named=True)
                found.append(Account(**row))
    return found


def repair(lake: Lake, events: DeltaTable) -> None:
    """Record committed batches that killed writers left pending, and delete abandoned accounts."""
    for account in pending_accounts(lake):
        if account.is_in(events):
            record(lake, account)
        elif (datetime.now(UTC) - account.committed_at).total_seconds() > _ABANDONED:
            lake.delete(f"pending/{account.batch}.parquet")


def recorded(lake: Lake, number: int) -> Account | None:
    """Return the account of a batch from `accounts`."""
    table = lake.find(ACCOUNTS)
    if table is None:
        return None
    rows = pl.scan_delta(table).filter(pl.col("batch") == f"{number:016x}").head(1).collect().rows(named=True)
    return Account(**rows[0]) if rows else None


def append_incoming(lake: Lake, incoming: Incoming, mapping: Mapping | None = None) -> tuple[Account, bool]:
    """Commit a batch atomically; return its account and whether this call committed it.

    Raises:
        SourceError: the lake cannot be read or written, or a column of the source does not fit (`changes`).
    """
    written: _Written | None = None
    since = 0

    def attempt() -> tuple[Account, bool]:
        events = lake.open(EVENTS)
        with again_if_erased(lake, EVENTS, events):
            return append_to(events)

    def append_to(events: DeltaTable) -> tuple[Account, bool]:
        nonlocal written, since
        repair(lake, events)
        number = events.transaction_version(incoming.inputs)
        if number and (before := recorded(lake, number)) is not None:
            return before, False
        known: Sources = {}
        if mapping is not None:
            known = known_sources(lake, mapping.name)
            changes(known, mapping, incoming.sources)
        index = KnownIds(lake, events)
        index.catch_up()
        if written is None or written.is_outdated(events, index, since):
            written = _Written(lake, index, incoming)
        since = events.version()
        if time.time() - written.started > _LONGEST:
            raise SourceError(
                f"lake: {lake.name}: an append must finish within {_LONGEST / 3600:.0f} hours, before its files "
                f"count as abandoned; this one took longer. Ingest less at a time"
            )
        columns = {name: getattr(incoming, name) for name in ("inputs", "mapping", "replayed")}
        columns |= written.columns(events) | {"sources": merged_sources(known, incoming.sources)}
        return commit_batch(lake, events, written.actions, **columns), True

    with clear_errors(lake.name):
        account, fresh = retried(lake.name, attempt)
        if fresh:
            maintain(lake, account.version)
        return account, fresh


def append_events(
    lake: Place, identity: str, events: pl.DataFrame, quarantined: pl.DataFrame, batch_id: str
) -> TableAccount:
    """Append a batch of live events atomically and return its account.

    Args:
        lake: A folder or an object-store URL; the lake is created if it does not exist.
        identity: `user` or `session`, as in a mapping.
        events: EVENT_SCHEMA in order of arrival; the first event with an ID wins.
        quarantined: QUARANTINE_SCHEMA of the rows that were already rejected.
        batch_id: Identifies the batch. Appending a batch ID that the lake already holds has no effect.

    Returns:
        The account: rows_in counts `events` and `quarantined`; rows with conflicting IDs are quarantined. For a batch
        that the lake already holds, the account recorded with it.

    Raises:
        SourceError: the lake has another kind of identity, or cannot be read or written, or batch_id is empty.
    """
    if not batch_id:
        raise SourceError("batch_id: must not be empty; received ''. Give each batch a unique ID")
    place = created(lake, identity, f"batch {batch_id}")
    marked = events.select(*EVENT_SCHEMA, content_hash().alias("_content"), pl.lit(LIVE).alias("table"))
    first = marked.with_columns(pl.col("_content").first().over("event_id").alias("_first"))
    is_first = pl.col("event_id").is_first_distinct()
    again = first.filter(~is_first)
    clashing = again.filter(pl.col("_content") != pl.col("_first"))
    rejected = pl.concat([quarantined.select(list(QUARANTINE_SCHEMA)), as_quarantine(clashing)])
    kept = first.filter(is_first).select(*EVENT_SCHEMA, "table")
    rows_in, repeated = events.height + quarantined.height, again.height - clashing.height
    accounts = {LIVE: TableAccount(rows_in, kept.height, count_reasons(rejected), repeated)}
    account, _ = append_incoming(place, Incoming(LIVE, batch_id, accounts, lambda: [kept], lambda: [rejected]))
    return account.table_accounts()[LIVE]
