"""Ingest files of any size into a lake through a mapping, or report what would be ingested.

The sorted events are kept in a temporary file (in `TMPDIR`), so that the append can read them again after another
writer committed first.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from events.account import TableAccount
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.identity import OTHER_CONTENT
from events.lake.commit import Incoming, append_incoming, as_quarantine, moved, new_batch, split_known
from events.lake.known_ids import KnownIds
from events.lake.schema_changes import changes, known_sources, source_columns
from events.lake.snapshot import is_lake
from events.lake.table import CONTENT, EVENTS, Lake, Place, created
from events.mapping import Mapping
from events.parquet import GroupedWriter
from events.reading import Reading, inputs_digest, require_events
from events.sources.files import Size, find_files

_LABELLED: dict[str, Any] = EVENT_SCHEMA | {"table": pl.String}
_CHUNK = 1 << 19
_SAMPLES = 5


@dataclass(frozen=True)
class IngestReport:
    """The result of an ingest.

    Attributes:
        accounts: Accounts by file label.
        unread: Files in the given folders that no table of the mapping reads.
        notes: Remarks on the files and their contents.
        changes: Changes in the source since it was last read, as human-readable lines.
        late_days: Days that got events although the lake already had a later day.
        batch: ID of the batch; empty for a dry run.
        again: Whether the lake already held these inputs, so that nothing was added.
        samples: For a dry run: a few events that would be added, and a few rows that would be quarantined.
    """

    accounts: dict[str, TableAccount]
    unread: tuple[str, ...]
    notes: tuple[str, ...]
    changes: list[str]
    late_days: list[str]
    batch: str = ""
    again: bool = False
    samples: tuple[pl.DataFrame, pl.DataFrame] | None = None

    def lines(self) -> list[str]:
        """Return the result as human-readable lines."""
        lines = list(self.changes)
        if self.unread:
            lines.append(f"not read, no table of the mapping: {', '.join(self.unread)}")
        lines += self.notes
        lines += [account.line(table) for table, account in self.accounts.items()]
        if self.again:
            lines.append(f"already ingested as batch {self.batch}: nothing was added")
        if self.late_days:
            lines.append(f"late events, recompute reports of these days: {', '.join(self.late_days)}")
        if self.samples is not None:
            for title, rows in zip(("accepted", "quarantined"), self.samples, strict=True):
                lines += [f"{title}, for example:", *(f"  {line}" for line in rows.write_ndjson().splitlines())]
            lines.append("dry run: nothing was written")
        return lines


def in_order(mapping: Mapping, reading: Reading, file: Path) -> Incoming:
    """Write the sorted events of a reading to a file; return a batch that reads them from there.

    Its `inputs` are random; the caller replaces them.
    """
    writer = GroupedWriter(file, _LABELLED, _CHUNK)
    for frame in reading.labelled():
        writer.add(frame)
    writer.close()
    return Incoming(
        mapping=mapping.name,
        inputs=new_batch(),
        accounts=reading.accounts(),
        events=lambda: _chunks(file),
        quarantined=reading.quarantined,
        sides=reading.sides | {CONTENT: reading.content},
    )


def _chunks(file: Path) -> Iterable[pl.DataFrame]:
    with pq.ParquetFile(file) as source:
        for number in range(source.num_row_groups):
            yield pl.DataFrame(source.read_row_group(number), schema_overrides=_LABELLED)


def ingest_files(
    place: Place | None,
    mapping: Mapping,
    inputs: list[Path],
    say: Callable[[str], None],
    size: Size | None = None,
    *,
    dry_run: bool = False,
) -> IngestReport:
    """Read files through a mapping and append them to a lake atomically.

    Args:
        place: A folder or an object-store URL, created if it does not exist; a dry run does not need it to exist.
        mapping: The mapping.
        inputs: Files, or folders of them.
        say: Called with progress messages.
        size: Size of the pieces held in memory; it does not affect the result.
        dry_run: Return samples without writing anything.

    Raises:
        SourceError: an input cannot be read, none of its rows becomes an event, a column of it does not fit what the
            lake knows of the source, or the lake cannot be written.
        MappingError: a table lacks columns that the mapping reads.
    """
    whose, columns = f"mapping {mapping.name}", source_columns(mapping, inputs)
    lake = None
    if place is not None and is_lake(place):
        lake = Lake(place) if dry_run else created(place, mapping.identity, whose)
    changed = changes(known_sources(lake, mapping.name), mapping, columns) if lake else []
    with tempfile.TemporaryDirectory(prefix="shoplens-ingest-") as name:
        folder = Path(name, "reading")
        folder.mkdir()
        files = inputs_digest(mapping, find_files(inputs))  # first: a file that grows meanwhile is read again later
        reading = Reading(mapping, inputs, folder, size, say)
        incoming = in_order(mapping, reading, Path(name, "events.parquet"))
        if not pq.read_metadata(Path(name, "events.parquet")).num_rows:
            require_events(incoming.accounts, mapping)
        digest = hashlib.sha256("\0".join([files, *incoming.accounts]).encode()).hexdigest()
        incoming = replace(incoming, inputs=digest, sources=columns)
        if dry_run or place is None:
            return _dry_run(lake, incoming, reading, changed)
        # Create a new lake last, so that a mapping that reads nothing does not leave an empty one.
        lake = lake or created(place, mapping.identity, whose)
        account, fresh = append_incoming(lake, incoming, mapping)
    tables, late = account.table_accounts(again=not fresh), account.late_days if fresh else []
    return IngestReport(tables, reading.unread, reading.notes, changed, late, account.batch, again=not fresh)


def _dry_run(lake: Lake | None, incoming: Incoming, reading: Reading, changed: list[str]) -> IngestReport:
    """Return the accounts and samples of what an ingest would add to an existing or a new lake."""
    accounts = incoming.accounts
    accepted = pl.DataFrame(schema=_LABELLED)
    quarantined = [rows.group_by("reasons", maintain_order=True).head(2) for rows in incoming.quarantined()]
    events = lake.find(EVENTS) if lake else None
    index = KnownIds(lake, events) if lake and events else None
    if index:
        index.catch_up()
    for chunk in incoming.events():
        new = chunk
        if index:
            new, repeated, clashing = split_known(chunk, index)
            accounts = moved(moved(accounts, repeated["table"], None), clashing["table"], OTHER_CONTENT)
            quarantined.append(as_quarantine(clashing.head(_SAMPLES)))
        accepted = pl.concat([accepted, new.head(_SAMPLES)]).head(_SAMPLES)
    columns = list(QUARANTINE_SCHEMA)
    rows = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *(one.select(columns) for one in quarantined)])
    shown = rows.group_by("reasons", maintain_order=True).head(2).select(columns)
    return IngestReport(accounts, reading.unread, reading.notes, changed, [], samples=(accepted, shown))
