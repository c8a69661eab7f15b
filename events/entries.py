"""What a mapping reads of events: one file, in pieces, for one entry of the mapping's `events`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from events.ids import salt_of
from events.joins import joined, second_table
from events.labels import Labels
from events.mapping import EventTable, Mapping
from events.pieces import Size, pieces
from events.plain import odd_columns_of, plain
from events.readers import select_files, table_name
from events.records import Rows, flat_rows
from events.transform import Transformed, transform
from shoplens.errors import SourceError


@dataclass(frozen=True)
class Entry:
    """One file, as it is read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.labels`.
        path: The file.
        spec: The entry.
        mapping: The mapping.
        salt: What derived ids are salted with, see `events.ids`.
        second: The second table of a join.
    """

    label: str
    path: Path
    spec: EventTable
    mapping: Mapping
    salt: str
    second: pl.DataFrame | None

    def rows(self, size: Size | None = None) -> Iterator[Rows]:
        """Yield the rows of the file in pieces.

        Raises:
            MappingError, SourceError: see `events.pieces` and `events.records`.
        """
        odd, csv = odd_columns_of(self.path), self.spec.csv
        for piece in pieces(self.path, csv.separator, csv.header, size):
            frame = piece.frame
            if self.second is not None:
                frame = joined(plain(frame, odd), self.second, self.spec.joins[0], self.spec.table, self.mapping.name)
            flat = flat_rows(frame, self.spec)
            yield Rows(flat.frame, flat.derived, odd, piece.short)

    def transformed(self, size: Size | None = None) -> Iterator[tuple[int, Transformed]]:
        """Yield, for every piece, how many rows it has and what became of them.

        Raises:
            MappingError, SourceError: see `rows` and `events.transform`.
        """
        start = 0
        for rows in self.rows(size):
            yield rows.frame.height, transform(rows, self.spec, self.mapping, self.label, self.salt, start)
            start += rows.frame.height

    def raw(self, numbers: pl.Series, size: Size | None = None) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
        """Yield the raw rows of these sorted numbers, with the numbers, a piece at a time."""
        start = 0
        for rows in self.rows(size):
            here = numbers.filter(numbers.is_between(start, start + rows.frame.height, closed="left"))
            if not here.is_empty():
                yield here, plain(rows.frame, rows.odd)[(here - start).to_list()]
            start += rows.frame.height
            if start > numbers[-1]:
                return


def files_of(files: list[Path], table: str, mapping: Mapping) -> list[Path]:
    """Return the files of a table.

    Raises:
        SourceError: there is none.
    """
    found = select_files(files, table)
    if not found:
        names = ", ".join(sorted({table_name(path) for path in files}))
        raise SourceError(
            f"mapping {mapping.name}: table {table} is none of the given ones ({names}); give it too, or take "
            f"it out of the mapping"
        )
    return found


def entries_of(mapping: Mapping, files: list[Path], labels: Labels) -> list[Entry]:
    """Return what is read of events, in the order in which it is read: of two events with one id the first counts.

    Raises:
        MappingError, SourceError: a table is not there, or a joined one cannot be joined.
    """
    entries: list[Entry] = []
    before: dict[str, int] = {}
    for place, spec in enumerate(mapping.events, start=1):
        found = files_of(files, spec.table, mapping)
        second = None
        if spec.joins:
            second = second_table(spec.joins[0], files_of(files, spec.joins[0].table, mapping), mapping.name)
        # The id is derived from the name of the mapped table, so that the same rows in another file are duplicates.
        salt = salt_of(spec.table, before.get(spec.table, 0))
        before[spec.table] = before.get(spec.table, 0) + 1
        for path in found:
            entries.append(Entry(labels.take(path, f"events {place}"), path, spec, mapping, salt, second))
    return entries
