"""Files through a mapping into the contract, with the account of every row."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import EVENT_SCHEMA, ITEM_SCHEMA
from events.entries import Entry, entries_of
from events.labels import Labels
from events.mapping import Mapping
from events.readers import find_files
from events.sessions import derive_sessions
from events.settle import Part, Settled, settle
from events.transform.columns import scalar_columns
from events.transform.items import CONTENT_SCHEMA, carried_content, every_item
from events.transform.side_tables import read_side
from events.unread import unread_files
from shoplens.digest import file_digest
from shoplens.errors import SourceError

REPLAYED_SCHEMA = {"table": pl.String(), "row": pl.Int64()}


@dataclass(frozen=True)
class Ingested:
    """A source, to the contract.

    Attributes:
        events: EVENT_SCHEMA, sorted by event_time and event_id.
        items: Every item: those of the items table, then those only seen in events.
        users: USER_SCHEMA and the source's own columns.
        campaigns: CAMPAIGN_SCHEMA and the source's own columns.
        quarantined: QUARANTINE_SCHEMA.
        accounts: By label of a file, see `events.labels`.
        origin: event_id and table (a label) of every accepted event.
        item_table: The rows of `items` that the items table gave.
        item_content: What rode on events, see `events.items`.
        unread: Files of given folders that no table of the mapping reads.
        digest: Of the mapping and the files: the same again is the same digest.
        replayed: table and row of quarantined rows of a lake that this reading stands for.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    campaigns: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]
    origin: pl.DataFrame
    item_table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ITEM_SCHEMA))
    item_content: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CONTENT_SCHEMA))
    unread: tuple[str, ...] = ()
    digest: str = ""
    replayed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REPLAYED_SCHEMA))


def _part(entry: Entry) -> Part:
    done = list(entry.transformed())
    events = pl.concat([piece.events for _, piece in done])
    aside = pl.concat([piece.quarantined for _, piece in done])
    rows_in = sum(height for height, _ in done)
    return Part(
        entry.label, rows_in, events, aside, lambda: pl.concat(scalar_columns(r.frame, r.forms) for r in entry.rows())
    )


def contract_events(settled: Settled) -> pl.DataFrame:
    """Return EVENT_SCHEMA of accepted events, with sessions, sorted by event_time and event_id."""
    return derive_sessions(settled.events.select(list(EVENT_SCHEMA))).sort("event_time", "event_id")


def inputs_digest(mapping: Mapping, files: list[Path], labels: list[str]) -> str:
    """Return the digest of a mapping and its files: the same again is the same digest."""
    total = hashlib.sha256(mapping.model_dump_json().encode())
    for line in sorted(f"{path.name}\0{file_digest(path)}" for path in files):
        total.update(line.encode())
    total.update("\0".join(labels).encode())
    return total.hexdigest()


def read_source(mapping: Mapping, inputs: list[Path]) -> Ingested:
    """Read files through a mapping.

    Raises:
        SourceError: an input is missing or unreadable, or no file is a table that the mapping reads.
        MappingError: a table lacks columns that the mapping reads.
    """
    files = find_files(inputs)
    unread = unread_files(mapping, inputs, files)
    labels = Labels(files)
    settled = settle([_part(entry) for entry in entries_of(mapping, files, labels)])
    content = carried_content(settled.events)
    events, accounts = contract_events(settled), settled.accounts
    items, users, campaigns = (read_side(files, name, mapping, labels) for name in ("items", "users", "campaigns"))
    for side in (items, users, campaigns):
        accounts.update(side.accounts)
    return Ingested(
        events=events,
        items=every_item(items.rows, content, events["item_id"]),
        users=users.rows,
        campaigns=campaigns.rows,
        quarantined=pl.concat([settled.quarantined, items.quarantined, users.quarantined, campaigns.quarantined]),
        accounts=accounts,
        origin=settled.origin,
        item_table=items.rows,
        item_content=content,
        unread=unread,
        digest=inputs_digest(mapping, files, list(accounts)),
    )


def require_some(done: Ingested, mapping: Mapping) -> None:
    """Raise a SourceError where there were rows of events, and not one became an event."""
    if not done.events.height:
        refuse_all(count_reasons(done.quarantined), mapping)


def refuse_all(reasons: dict[str, int], mapping: Mapping) -> None:
    """Raise a SourceError where rows were set aside, for a source of which not one row became an event."""
    if not reasons:
        return
    counts = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(f"{reason} {count:,}" for reason, count in counts)
    raise SourceError(f"mapping {mapping.name}: some rows must become events; none did ({shown}). Correct the mapping")
