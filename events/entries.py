"""What a mapping reads of events: one file, in pieces, for one entry of the mapping's `events`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from events.account import quarantine
from events.identity import salt_of
from events.mapping import Mapping
from events.sources.files import Labels, Size, files_of
from events.sources.readers import pieces, read_table
from events.transform.columns import scalar_columns
from events.transform.money import read_rates
from events.transform.records import Filler, Rows, Seconds, flat_rows, joined, second_tables
from events.transform.rows import Transformed, Transformer


@dataclass(frozen=True)
class Entry:
    """One file, as it is read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.sources.files.Labels`.
        path: The file.
        table: Shared by the files of the entry, which must be transformed in order.
        seconds: The joins of the entry, each with its second table.
        notes: Remarks on the file for the person who reads it, once it has been read.
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
        """Yield what became of the rows of every piece.

        Raises:
            MappingError, SourceError: see `rows` and `events.transform.rows`.
        """
        self.table.start_file(self.rows(size))
        return self.table.transform(self.rows(size), self.label)

    def conflicting(self, numbers: pl.Series, reason: str, size: Size | None = None) -> Iterator[pl.DataFrame]:
        """Yield QUARANTINE_SCHEMA of the rows with these sorted numbers, read from the file again."""
        start = 0
        for rows in self.rows(size):
            here = numbers.filter(numbers.is_between(start, start + rows.frame.height, closed="left"))
            if not here.is_empty():
                raw = scalar_columns(rows.frame[(here - start).to_list()])
                yield quarantine(raw, here, pl.Series([[reason]]).new_from_index(0, len(here)), self.label)
            start += rows.frame.height
            if start > numbers[-1]:
                return


def entries_of(mapping: Mapping, files: list[Path], labels: Labels) -> list[Entry]:
    """Return what is read of events, in the order in which it is read: of two events with one ID the first counts.

    Raises:
        MappingError, SourceError: a table is not there, or a joined one cannot be joined.
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
        # The ID is derived from the name of the mapped table, so that the same rows in another file are duplicates.
        table = Transformer(spec, mapping, salt_of(spec.table, before.get(spec.table, 0)), rates)
        before[spec.table] = before.get(spec.table, 0) + 1
        entries += [Entry(labels.take(path, f"events {place}"), path, table, seconds) for path in found]
    return entries


def findings_of(entries: list[Entry]) -> list[str]:
    """Return what is reported about the tables of entries that have been read, one line per finding."""
    tables = dict.fromkeys(entry.table for entry in entries)
    return [f"{table.spec.table}: {line}" for table in tables for line in table.findings.messages()]
