"""Files through a mapping into the contract, with the account of every row."""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA
from events.ids import salt_of
from events.items import CONTENT_SCHEMA, every_item, riding_content
from events.joins import joined
from events.labels import Labels
from events.mapping import EventTable, Mapping
from events.plain import plain
from events.readers import find_files, read_table, select_files, table_name
from events.records import Rows, flat_rows
from events.settle import Part, Settled, settle
from events.sides import read_side
from events.transform import transform
from shoplens.digest import file_digest
from shoplens.errors import SourceError

REPLAYED_SCHEMA = {"table": pl.String(), "row": pl.Int64()}
_IDLE = timedelta(minutes=30)  # Google Analytics' session time-out


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


def _unread(mapping: Mapping, inputs: list[Path], files: list[Path]) -> tuple[str, ...]:
    """Return the names of files of given folders that no table reads.

    Raises:
        SourceError: a file given by name is one of them.
    """
    read = {path for table in mapping.tables() for path in select_files(files, table)}
    unread = [path for path in files if path not in read]
    named = [path.name for path in unread if path in inputs]
    if named:
        raise SourceError(
            f"inputs: a file given by name must be a table that mapping {mapping.name} reads "
            f"({', '.join(mapping.tables())}); received {', '.join(named)}. Leave it out or add it to the mapping"
        )
    return tuple(path.name for path in unread)


def _read_parts(mapping: Mapping, files: list[Path], labels: Labels) -> list[Part]:
    parts: list[Part] = []
    before: dict[str, int] = {}
    for place, spec in enumerate(mapping.events, start=1):
        found = _files_of(files, spec.table, mapping)
        others = [] if spec.join is None else _files_of(files, spec.join.table, mapping)
        # The id is derived from the name of the mapped table, so that the same rows in another file are duplicates.
        salt = salt_of(spec.table, before.get(spec.table, 0))
        before[spec.table] = before.get(spec.table, 0) + 1
        parts += [_read_part(path, labels.take(path, f"events {place}"), spec, mapping, salt, others) for path in found]
    return parts


def _rows(path: Path, spec: EventTable, others: list[Path], mapping: str) -> Rows:
    frame = read_table(path, spec.csv.separator, spec.csv.header)
    if spec.join is not None:
        frame = joined(plain(frame), spec.join, others, spec.table, mapping)
    return flat_rows(frame, spec)


def _read_part(path: Path, label: str, spec: EventTable, mapping: Mapping, salt: str, others: list[Path]) -> Part:
    rows = _rows(path, spec, others, mapping.name)
    done = transform(rows, spec, mapping, label, salt)
    again = partial(_rows, path, spec, others, mapping.name)
    return Part(label, rows.frame.height, done.events, done.quarantined, lambda: plain(again().frame))


def _files_of(files: list[Path], table: str, mapping: Mapping) -> list[Path]:
    found = select_files(files, table)
    if not found:
        names = ", ".join(sorted({table_name(path) for path in files}))
        raise SourceError(
            f"mapping {mapping.name}: table {table} is none of the given ones ({names}); give it too, or take "
            f"it out of the mapping"
        )
    return found


def derive_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Fill missing session ids: a person's events with gaps of at most 30 minutes; the id is who and first moment."""
    if events["session_id"].null_count() == 0:
        return events
    who = pl.coalesce("user_id", "anonymous_id")
    ordered = events.with_columns(who.alias("_who")).sort("_who", "event_time", "event_id")
    new = (pl.col("event_time").diff().over("_who") > _IDLE).fill_null(value=True)
    first = pl.when(new).then(pl.col("event_time").dt.epoch("s")).forward_fill()
    derived = pl.concat_str([pl.col("_who"), first.cast(pl.String)], separator="-")
    return ordered.with_columns(pl.coalesce("session_id", derived).alias("session_id")).drop("_who")


def contract_events(settled: Settled) -> pl.DataFrame:
    """Return EVENT_SCHEMA of accepted events, with sessions, sorted by event_time and event_id."""
    return derive_sessions(settled.events.select(list(EVENT_SCHEMA))).sort("event_time", "event_id")


def _digest(mapping: Mapping, files: list[Path], labels: list[str]) -> str:
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
    unread = _unread(mapping, inputs, files)
    labels = Labels(files)
    settled = settle(_read_parts(mapping, files, labels))
    content = riding_content(settled.events)
    events, accounts = contract_events(settled), settled.accounts
    items, users, campaigns = (
        read_side(files, name, schema, mapping, labels)
        for name, schema in (("items", ITEM_SCHEMA), ("users", USER_SCHEMA), ("campaigns", CAMPAIGN_SCHEMA))
    )
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
        digest=_digest(mapping, files, list(accounts)),
    )


def require_some(done: Ingested, mapping: Mapping) -> None:
    """Raise a SourceError where there were rows of events, and not one became an event."""
    if done.events.height or done.quarantined.is_empty():
        return
    counts = sorted(count_reasons(done.quarantined).items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(f"{reason} {count:,}" for reason, count in counts)
    raise SourceError(f"mapping {mapping.name}: some rows must become events; none did ({shown}). Correct the mapping")
