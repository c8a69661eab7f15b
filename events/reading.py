"""Read source files to the contract through a mapping, accounting for every row."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons, quarantine
from events.contract import EVENT_SCHEMA, SIDE_SCHEMAS
from events.identity import OLDER_VERSION, OTHER_CONTENT, salt_of
from events.mapping import Mapping
from events.resolve import Resolver
from events.sources.files import Labels, Size, files_of, find_files, select_files, unread_files
from events.sources.readers import pieces, read_table
from events.transform.columns import scalar_columns
from events.transform.money import read_rates
from events.transform.records import Filler, Rows, Seconds, flat_rows, joined, second_tables
from events.transform.rows import Transformed, Transformer
from events.transform.side_tables import (
    CONTENT_SCHEMA,
    carried_columns,
    carried_content,
    every_item,
    merged_content,
    read_side,
)
from shoplens.errors import SourceError
from shoplens.files import file_digest


@dataclass(frozen=True)
class Entry:
    """One file, read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.sources.files.Labels`.
        path: The file.
        table: Transform shared by the entry's files, which must be transformed in order.
        seconds: The entry's joins, each with its second table.
        notes: Remarks on the file for the user, available once it has been read.
    """

    label: str
    path: Path
    table: Transformer
    seconds: Seconds = ()
    notes: list[str] = field(default_factory=list)

    def rows(self, size: Size | None = None) -> Iterator[Rows]:
        """Yield the rows of the file in pieces.

        Raises:
            MappingError, SourceError: see `events.sources`.
        """
        spec, name = self.table.spec, self.table.mapping.name
        filler = None if spec.fill_down is None else Filler(spec.fill_down, spec.table, name)
        for piece in pieces(self.path, spec.csv, size):
            frame = piece.frame if filler is None else filler.fill(piece.frame)
            if piece.note and piece.note not in self.notes:
                self.notes.append(piece.note)
            yield flat_rows(joined(frame, self.seconds, spec.table, name), spec)

    def transformed(self, size: Size | None = None) -> Iterator[Transformed]:
        """Yield the transformed rows of every piece.

        Raises:
            MappingError, SourceError: see `rows` and `events.transform.rows`.
        """
        self.table.start_file(self.rows(size))
        return self.table.transform(self.rows(size), self.label)

    def conflicting(self, numbers: pl.Series, reason: str, size: Size | None = None) -> Iterator[pl.DataFrame]:
        """Read the rows with these sorted numbers again and yield them as QUARANTINE_SCHEMA."""
        start = 0
        for rows in self.rows(size):
            here = numbers.filter(numbers.is_between(start, start + rows.frame.height, closed="left"))
            if not here.is_empty():
                raw = scalar_columns(rows.frame[(here - start).to_list()])
                yield quarantine(raw, here, pl.Series([[reason]]).new_from_index(0, len(here)), self.label)
            start += rows.frame.height
            if start > numbers[-1]:
                return


def _entries_of(mapping: Mapping, files: list[Path], labels: Labels) -> list[Entry]:
    """Return the files of events in reading order; of events with the same ID, the first one wins.

    Raises:
        MappingError, SourceError: a table is missing, or a second table cannot be joined.
    """
    entries: list[Entry] = []
    before: dict[str, int] = {}
    rates = None
    if mapping.rates is not None:
        tables = [read_table(file, mapping.rates.csv) for file in files_of(files, mapping.rates.table, mapping)]
        rates = read_rates(tables, mapping.rates) if tables else None
    for place, spec in enumerate(mapping.events, start=1):
        found = files_of(files, spec.table, mapping)
        seconds = second_tables(spec, files, mapping) if found else ()
        # IDs derive from the name of the mapped table, so that the same rows in another file are duplicates.
        table = Transformer(spec, mapping, salt_of(spec.table, before.get(spec.table, 0)), rates)
        before[spec.table] = before.get(spec.table, 0) + 1
        entries += [Entry(labels.take(path, f"events {place}"), path, table, seconds) for path in found]
    return entries


def _findings_of(entries: list[Entry]) -> list[str]:
    """Return the findings about the tables that have been read, one line each."""
    tables = dict.fromkeys(entry.table for entry in entries)
    return [f"{table.spec.table}: {line}" for table in tables for line in table.findings.messages()]


class Progress:
    """Shows progress at most once per `seconds`, and nothing for a job that ends sooner."""

    def __init__(self, show: Callable[[str], object], seconds: float = 10.0) -> None:
        self._show, self._seconds = show, seconds
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        """Show a line if enough time has passed."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            self._show(line)


class Reading:
    """Reads a source to the contract.

    Attributes:
        unread: Files in the given folders that no table of the mapping reads.
        sides: The side tables by name: SIDE_SCHEMAS plus the source's own columns.
        content: Item content of the events (CONTENT_SCHEMA), available once `events` is exhausted.
    """

    def __init__(
        self,
        mapping: Mapping,
        inputs: list[Path],
        folder: Path,
        size: Size | None,
        progress: Callable[[str], None],
        entries: list[Entry] | None = None,
    ) -> None:
        """Read the files.

        Args:
            mapping: The mapping.
            inputs: Files, or folders of them.
            folder: A temporary folder that must exist as long as the reading is used.
            size: Size of the pieces held in memory; it does not affect the result.
            progress: Called frequently with a progress message.
            entries: Rows to read instead of files; `inputs` is then empty.

        Raises:
            SourceError: an input is missing or unreadable, or the mapping reads none of the files.
            MappingError: a table lacks columns that the mapping reads.
        """
        files = find_files(inputs)
        self._folder, self._size, self._progress = folder, size or Size(), progress
        self.unread = unread_files(mapping, inputs, files)
        self.sides = {name: pl.DataFrame(schema=schema) for name, schema in SIDE_SCHEMAS.items()}
        self._side_accounts: dict[str, TableAccount] = {}
        self._side_quarantined: list[pl.DataFrame] = []
        if entries is None:
            labels = Labels(files)
            entries = _entries_of(mapping, files, labels)
            # Read these first, so that their memory is free again before the events are read.
            for name in SIDE_SCHEMAS:
                side = read_side(files, name, mapping, labels)
                self.sides[name] = side.rows
                self._side_accounts |= side.accounts
                self._side_quarantined.append(side.quarantined)
        self._absent = [name for name in mapping.optional_tables if files and not select_files(files, name)]
        self._entries = entries
        self._resolver = Resolver(folder, carried_columns(mapping), self._size)
        self._quarantined: list[list[Path]] = [[] for _ in entries]
        self._reasons: list[Counter[str]] = [Counter() for _ in entries]
        self._rows_in = [self._read(part, entry) for part, entry in enumerate(entries)]
        self._accepted: Counter[int] = Counter()
        self.content = pl.DataFrame(schema=CONTENT_SCHEMA)

    def _read(self, part: int, entry: Entry) -> int:
        rows = 0
        for done in entry.transformed(self._size):
            rows += done.rows
            self._resolver.add(part, done.events)
            self._quarantine(part, done.quarantined)
            self._progress(f"{entry.label}: {rows:,} rows read")
        return rows

    def _quarantine(self, part: int, rows: pl.DataFrame) -> None:
        if rows.is_empty():
            return
        self._reasons[part].update(count_reasons(rows))
        file = self._folder / f"quarantined-{part:05}-{len(self._quarantined[part]):06}.parquet"
        rows.write_parquet(file, compression="lz4")
        self._quarantined[part].append(file)

    def events(self, until: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Yield the events in frames sorted by event_time and event_id; can be called only once.

        Args:
            until: Use item content from events only if it was known before this time.
        """
        for frame in self.labelled(until):
            yield frame.drop("table")

    def labelled(self, until: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Like `events`, with the label of each event's file as `table`; call only one of the two, once."""
        labels = {part: entry.label for part, entry in enumerate(self._entries)}
        table = pl.col("_part").replace_strict(labels, return_dtype=pl.String).alias("table")
        total, done = self._resolver.rows, 0
        self._progress(f"{total:,} rows: resolving duplicate and conflicting IDs, and sessions")
        for frame in self._resolver.events():
            self._accepted.update(dict(frame["_part"].value_counts().iter_rows()))
            content = merged_content(pl.concat([self.content, carried_content(frame, until)]))
            # Copy, because a few strings would keep the whole buffer in memory.
            self.content = pl.DataFrame(content.to_arrow())
            done += frame.height
            self._progress(f"{done:,} of {total:,} events in order")
            yield frame.select(*EVENT_SCHEMA, table)
        for (part, older), rows in sorted(
            self._resolver.conflicting.partition_by("_part", "older", as_dict=True).items()
        ):
            reason = OLDER_VERSION if older else OTHER_CONTENT
            for quarantined in self._entries[part].conflicting(rows["_row"], reason, self._size):
                self._quarantine(part, quarantined)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the files and their contents, to show to the user."""
        notes = [note for entry in self._entries for note in entry.notes]
        if self._absent:
            notes.append(f"not given, and optional: {', '.join(self._absent)}")
        return tuple(dict.fromkeys([*notes, *_findings_of(self._entries)]))

    def items(self, seen: pl.Series) -> pl.DataFrame:
        """Return every item of the items table, with or without an event, and all other items seen, with their content.

        Available once `events` is exhausted.
        """
        return every_item(self.sides["items"], self.content, seen)

    def accounts(self) -> dict[str, TableAccount]:
        """Return the accounts by file label; available once `events` is exhausted.

        Raises:
            SourceError: the rows do not add up.
        """
        repeated = self._resolver.repeated
        return {
            entry.label: TableAccount(rows, self._accepted[part], dict(self._reasons[part]), repeated[part])
            for part, (entry, rows) in enumerate(zip(self._entries, self._rows_in, strict=True))
        } | self._side_accounts

    def quarantined(self) -> Iterator[pl.DataFrame]:
        """Yield the quarantined rows (QUARANTINE_SCHEMA); available once `events` is exhausted."""
        for file in (file for part in self._quarantined for file in part):
            yield pl.read_parquet(file, hive_partitioning=False)
        yield from (rows for rows in self._side_quarantined if rows.height)


def inputs_digest(mapping: Mapping, files: list[Path]) -> str:
    """Return a digest of a mapping and its files."""
    total = hashlib.sha256(mapping.model_dump_json().encode())
    for line in sorted(f"{path.name}\0{file_digest(path)}" for path in files):
        total.update(line.encode())
    return total.hexdigest()


def require_events(accounts: dict[str, TableAccount], mapping: Mapping) -> None:
    """Raise a SourceError that lists the quarantine reasons, if there are any."""
    reasons = sum((Counter(account.quarantined) for account in accounts.values()), Counter[str]())
    if reasons:
        counts = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
        shown = ", ".join(f"{reason} {count:,}" for reason, count in counts)
        raise SourceError(
            f"mapping {mapping.name}: at least one row must become an event; none did ({shown}). Correct the mapping"
        )
