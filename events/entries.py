"""What a mapping reads of events: one file, in pieces, for one entry of the mapping's `events`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from events.labels import Labels
from events.mapping import EventTable, Join, Mapping
from events.pieces import Size, pieces
from events.readers import read_table
from events.sources.joins import Filler, joined, second_table
from events.sources.records import Rows, flat_rows, only_rows
from events.transform.columns import column_forms_of, scalar_columns
from events.transform.ids import salt_of
from events.transform.money import read_rates
from events.transform.rows import TableState, Transformed, transform
from events.transform.side_tables import files_of


@dataclass(frozen=True)
class Entry:
    """One file, as it is read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.labels`.
        path: The file.
        spec: The entry.
        mapping: The mapping.
        salt: What derived IDs are salted with, see `events.transform.ids`.
        seconds: The joins of the entry, each with its second table.
        state: Shared by the files of the entry, which must be transformed in order.
    """

    label: str
    path: Path
    spec: EventTable
    mapping: Mapping
    salt: str
    seconds: tuple[tuple[Join, pl.DataFrame], ...]
    state: TableState

    def rows(self, size: Size | None = None) -> Iterator[Rows]:
        """Yield the rows of the file in pieces.

        Raises:
            MappingError, SourceError: see `events.pieces` and `events.sources.records`.
        """
        forms, csv, spec = column_forms_of(self.path), self.spec.csv, self.spec
        filler = None if spec.fill_down is None else Filler(spec.fill_down, spec.table, self.mapping.name)
        for piece in pieces(self.path, csv.separator, csv.header, size):
            frame = piece.frame if filler is None else filler.fill(piece.frame)
            for join, second in self.seconds:
                frame = joined(scalar_columns(frame, forms), second, join, spec.table, self.mapping.name)
            flat = flat_rows(frame, spec)
            yield only_rows(Rows(flat.frame, flat.derived, forms, piece.short, flat.absent, flat.addresses), spec)

    def transformed(self, size: Size | None = None) -> Iterator[tuple[int, Transformed]]:
        """Yield, for every piece, how many rows it has and what became of them.

        Raises:
            MappingError, SourceError: see `rows` and `events.transform.rows`.
        """
        start = 0
        self.state.start_file()
        for rows in self.rows(size) if self.state.needs_first_pass else ():
            self.state.learn(rows)
        for rows in self.rows(size):
            height = rows.frame.height
            yield height, transform(rows, self.spec, self.mapping, self.label, self.salt, start, self.state)
            start += height

    def raw(self, numbers: pl.Series, size: Size | None = None) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
        """Yield the raw rows of these sorted numbers, with the numbers, a piece at a time."""
        start = 0
        for rows in self.rows(size):
            here = numbers.filter(numbers.is_between(start, start + rows.frame.height, closed="left"))
            if not here.is_empty():
                yield here, scalar_columns(rows.frame, rows.forms)[(here - start).to_list()]
            start += rows.frame.height
            if start > numbers[-1]:
                return


def _rates(mapping: Mapping, files: list[Path]) -> pl.DataFrame | None:
    rates = mapping.rates
    if rates is None:
        return None
    tables = [read_table(file, rates.csv.separator, rates.csv.header) for file in files_of(files, rates.table, mapping)]
    return read_rates(tables, rates) if tables else None


def entries_of(mapping: Mapping, files: list[Path], labels: Labels) -> list[Entry]:
    """Return what is read of events, in the order in which it is read: of two events with one ID the first counts.

    Raises:
        MappingError, SourceError: a table is not there, or a joined one cannot be joined.
    """
    entries: list[Entry] = []
    before: dict[str, int] = {}
    rates = _rates(mapping, files)
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
            entries.append(Entry(label, path, spec, mapping, salt, seconds, state))
    return entries
