"""What a mapping reads of events: one file, in pieces, for one entry of the mapping's `events`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from events.mapping import EventTable, Join, Mapping
from events.sources.files import Labels, Size, files_of
from events.sources.readers import pieces, read_table
from events.transform.columns import column_forms_of, scalar_columns
from events.transform.ids import salt_of
from events.transform.joins import Filler, joined, second_table
from events.transform.money import read_rates
from events.transform.quarantine import quarantine, with_lines
from events.transform.records import Rows, flat_rows, only_rows
from events.transform.rows import TableState, Transformed, transform

_MALFORMED = "_malformed"  # the position of a malformed row in its piece


@dataclass(frozen=True)
class Entry:
    """One file, as it is read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.sources.files.Labels`.
        salt: What derived IDs are salted with, see `events.transform.ids`.
        state: Shared by the files of the entry, which must be transformed in order.
        seconds: The joins of the entry, each with its second table.
        notes: Remarks on the file for the person who reads it, once it has been read.
    """

    label: str
    path: Path
    spec: EventTable
    mapping: Mapping
    salt: str
    state: TableState
    seconds: tuple[tuple[Join, pl.DataFrame], ...] = ()
    notes: list[str] = field(default_factory=list)

    def rows(self, size: Size | None = None) -> Iterator[tuple[Rows, pl.DataFrame | None]]:
        """Yield the rows of the file in pieces, with `nth`, `reason` and `raw` of the malformed ones of each.

        Raises:
            MappingError, SourceError: see `events.sources`.
        """
        forms, spec = column_forms_of(self.path), self.spec
        filler = None if spec.fill_down is None else Filler(spec.fill_down, spec.table, self.mapping.name)
        for piece in pieces(self.path, spec.csv, size):
            frame = piece.frame if filler is None else filler.fill(piece.frame)
            if piece.note and piece.note not in self.notes:
                self.notes.append(piece.note)
            for join, second in self.seconds:
                frame = joined(scalar_columns(frame, forms), second, join, spec.table, self.mapping.name)
            if piece.malformed is None:
                yield only_rows(replace(flat_rows(frame, spec), forms=forms), spec), None
                continue
            # A malformed row has no values, but its place: one record may be several rows.
            place = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
            mark = pl.when(place.is_in(piece.malformed["nth"].implode())).then(place).alias(_MALFORMED)
            flat = flat_rows(frame.with_columns(mark), spec)
            flat = only_rows(replace(flat, forms=forms, malformed=flat.frame[_MALFORMED].is_not_null()), spec)
            found = flat.frame.select(pl.col(_MALFORMED).alias("_at")).with_row_index("nth").drop_nulls()
            malformed = found.join(piece.malformed.rename({"nth": "_at"}), on="_at", maintain_order="left").drop("_at")
            yield replace(flat, frame=flat.frame.drop(_MALFORMED)), malformed

    def transformed(self, size: Size | None = None) -> Iterator[tuple[int, Transformed]]:
        """Yield, for every piece, how many rows it has and what became of them.

        Raises:
            MappingError, SourceError: see `rows` and `events.transform.rows`.
        """
        start = 0
        self.state.start_file()
        for rows, _ in self.rows(size) if self.state.needs_first_pass else ():
            self.state.learn(rows)
        for rows, malformed in self.rows(size):
            done = transform(rows, self.spec, self.mapping, self.label, self.salt, start, self.state)
            if malformed is not None:
                done = Transformed(done.events, with_lines(done.quarantined, malformed, self.label, start))
            yield rows.frame.height, done
            start += rows.frame.height

    def conflicting(self, numbers: pl.Series, reason: str, size: Size | None = None) -> Iterator[pl.DataFrame]:
        """Yield QUARANTINE_SCHEMA of the rows with these sorted numbers, read from the file again."""
        start = 0
        for rows, _ in self.rows(size):
            here = numbers.filter(numbers.is_between(start, start + rows.frame.height, closed="left"))
            if not here.is_empty():
                raw = scalar_columns(rows.frame[(here - start).to_list()], rows.forms)
                marked = pl.DataFrame({"_row": here}).with_columns(pl.lit([reason]).alias("_reasons"))
                yield quarantine(raw, marked, self.label)
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
        others = [(join, files_of(files, join.table, mapping)) for join in spec.joins] if found else []
        seconds = tuple((join, second_table(join, paths, mapping.name)) for join, paths in others if paths)
        # The ID is derived from the name of the mapped table, so that the same rows in another file are duplicates.
        salt = salt_of(spec.table, before.get(spec.table, 0))
        before[spec.table] = before.get(spec.table, 0) + 1
        state = TableState(spec, mapping, rates)
        for path in found:
            label = labels.take(path, f"events {place}")
            entries.append(Entry(label, path, spec, mapping, salt, state, seconds))
    return entries


def findings_of(entries: list[Entry]) -> list[str]:
    """Return what is reported about the tables of entries that have been read, one line per finding."""
    tables = {id(entry.state): entry for entry in entries}
    return [f"{entry.spec.table}: {line}" for entry in tables.values() for line in entry.state.findings.messages()]
