"""What a mapping reads of events: one file, in pieces, for one entry of the mapping's `events`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from events.ids import salt_of
from events.joins import joined, second_table
from events.mapping import EventTable, Mapping
from events.plain import odd_columns_of, plain
from events.quarantine import quarantine
from events.records import Rows, flat_rows
from events.sources.files import Labels, Size, files_of
from events.sources.readers import pieces
from events.transform import Transformed, transform

_MALFORMED = "_malformed"  # the position of a malformed row in its piece


@dataclass(frozen=True)
class Entry:
    """One file, as it is read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.sources.files.Labels`.
        path: The file.
        spec: The entry.
        mapping: The mapping.
        salt: What derived ids are salted with, see `events.ids`.
        second: The second table of a join.
        notes: Remarks on the file for the person who reads it, once it has been read.
    """

    label: str
    path: Path
    spec: EventTable
    mapping: Mapping
    salt: str
    second: pl.DataFrame | None
    notes: list[str] = field(default_factory=list)

    def rows(self, size: Size | None = None) -> Iterator[tuple[Rows, pl.DataFrame | None]]:
        """Yield the rows of the file in pieces, with `nth`, `reason` and `raw` of the malformed ones of each.

        Raises:
            MappingError, SourceError: see `events.sources` and `events.records`.
        """
        odd = odd_columns_of(self.path)
        for piece in pieces(self.path, self.spec.csv, size):
            frame = piece.frame
            if piece.note:
                self.notes.append(piece.note)
            if self.second is not None:
                frame = joined(plain(frame, odd), self.second, self.spec.joins[0], self.spec.table, self.mapping.name)
            if piece.malformed is None:
                flat = flat_rows(frame, self.spec)
                yield Rows(flat.frame, flat.derived, odd), None
                continue
            # A malformed row has no values, but its place: one record may be several rows.
            mark = pl.DataFrame({"nth": piece.malformed["nth"], _MALFORMED: piece.malformed["nth"]})
            flat = flat_rows(frame.with_row_index("nth").join(mark, "nth", "left").drop("nth"), self.spec)
            place = flat.frame[_MALFORMED]
            found = pl.DataFrame({"nth": place.is_not_null().arg_true(), "_at": place.drop_nulls()})
            malformed = found.join(piece.malformed.rename({"nth": "_at"}), on="_at", maintain_order="left").drop("_at")
            yield Rows(flat.frame.drop(_MALFORMED), flat.derived, odd, place.is_not_null().alias("short")), malformed

    def transformed(self, size: Size | None = None) -> Iterator[tuple[int, Transformed]]:
        """Yield, for every piece, how many rows it has and what became of them.

        Raises:
            MappingError, SourceError: see `rows` and `events.transform`.
        """
        start = 0
        for rows, malformed in self.rows(size):
            done = transform(rows, self.spec, self.mapping, self.label, self.salt, start)
            if malformed is not None:
                done = Transformed(done.events, self._with_lines(done.quarantined, malformed, start))
            yield rows.frame.height, done
            start += rows.frame.height

    def _with_lines(self, quarantined: pl.DataFrame, malformed: pl.DataFrame, start: int) -> pl.DataFrame:
        """Return quarantined rows with the reason and the line of each malformed one in place of missing values."""
        lines = malformed.select(
            pl.lit(self.label).alias("table"),
            (pl.col("nth").cast(pl.Int64) + start).alias("row"),
            pl.concat_list("reason").alias("reasons"),
            "raw",
        )
        return pl.concat([quarantined.join(lines, on="row", how="anti"), lines]).sort("row")

    def conflicting(self, numbers: pl.Series, reason: str, size: Size | None = None) -> Iterator[pl.DataFrame]:
        """Yield QUARANTINE_SCHEMA of the rows with these sorted numbers, read from the file again."""
        start = 0
        for rows, _ in self.rows(size):
            here = numbers.filter(numbers.is_between(start, start + rows.frame.height, closed="left"))
            if not here.is_empty():
                raw = plain(rows.frame[(here - start).to_list()], rows.odd)
                marked = pl.DataFrame({"_row": here}).with_columns(pl.lit([reason]).alias("_reasons"))
                yield quarantine(raw, marked, self.label)
            start += rows.frame.height
            if start > numbers[-1]:
                return


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
