"""Items, users, campaigns, promotions and stock: side tables to their schemas, with the account of every row."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import QUARANTINE_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from events.mapping import SIDE_KEYS, DateAndTime, Mapping, SideTable, columns_of
from events.sources.files import Labels, Piece, files_of
from events.sources.readers import pieces
from events.transform.columns import ColumnForms, column_forms_of, require_scalars, scalar_columns
from events.transform.ids import Seen
from events.transform.joins import joined, require_columns, second_table
from events.transform.numbers import given, id_text, number, path, text
from events.transform.quarantine import failed_tests, quarantine, with_lines
from events.transform.rows import MALFORMED
from events.transform.times import read_times, require_times

_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)  # people registered, and were born, before the first event


@dataclass(frozen=True)
class Side:
    """A side table: its rows to the schema, those quarantined, and the accounts of its files."""

    rows: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]


@dataclass
class _Tally:
    """What became of the rows of one file."""

    rows_in: int = 0
    accepted: int = 0
    repeated: int = 0
    quarantined: list[pl.DataFrame] = field(default_factory=list)


class SideReader:
    """A side table, read in pieces: a leaflet has 20 million rows.

    Attributes:
        accounts: By label; complete when `frames` has ended.
        quarantined: QUARANTINE_SCHEMA; complete when `frames` has ended.
    """

    def __init__(self, files: list[Path], name: str, mapping: Mapping, labels: Labels) -> None:
        """Find the files of the side table `name`; a table that the mapping does not have is empty.

        Raises:
            SourceError: no given file is the table, and it is not optional.
        """
        self._spec: SideTable | None = mapping.sides.get(name)
        self._name, self._mapping, self._schema = name, mapping, SIDE_SCHEMAS[name]
        self._tallies: dict[str, _Tally] = {}
        self._files: dict[str, Path] = {}
        if self._spec is None:
            return
        found = files_of(files, self._spec.table, mapping)
        self._files = {labels.take(file, name): file for file in found}
        others = {join.table: files_of(files, join.table, mapping) for join in self._spec.joins} if found else {}
        self._joins = [
            (j, second_table(j, others[j.table], mapping.name)) for j in self._spec.joins if others.get(j.table)
        ]

    @property
    def schema(self) -> dict[str, Any]:
        """The columns of the contract, then the source's own as text."""
        return self._schema | dict.fromkeys(() if self._spec is None else self._spec.own, pl.String)

    @property
    def accounts(self) -> dict[str, TableAccount]:
        """The account of every file by its label."""
        found = {}
        for label, tally in self._tallies.items():
            reasons: Counter[str] = Counter()
            for rows in tally.quarantined:
                reasons.update(count_reasons(rows))
            found[label] = TableAccount(tally.rows_in, tally.accepted, dict(reasons), tally.repeated)
        return found

    @property
    def quarantined(self) -> pl.DataFrame:
        """QUARANTINE_SCHEMA of all files."""
        parts = [rows for tally in self._tallies.values() for rows in tally.quarantined]
        return pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *parts])

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of the table to its schema, each once.

        Raises:
            MappingError: the table lacks columns that the mapping reads.
            SourceError: a file cannot be read, or a column does not hold text, numbers or times.
        """
        if self._spec is None or not self._files:
            return
        seen, columns = Seen(), self._columns(self._spec)
        for label, file in self._files.items():
            tally = self._tallies[label] = _Tally()
            forms = column_forms_of(file)
            for piece in pieces(file, self._spec.csv):
                mapped, quarantined = self._read(piece, forms, columns, label, tally.rows_in)
                fresh = mapped.filter(seen.before(mapped.hash_rows()) == 0)
                tally.rows_in += piece.frame.height
                tally.accepted += fresh.height
                tally.repeated += mapped.height - fresh.height
                if quarantined.height:
                    tally.quarantined.append(quarantined)
                yield fresh

    def _joined(self, frame: pl.DataFrame) -> pl.DataFrame:
        spec = self._spec
        for join, second in self._joins if spec is not None else ():
            frame = joined(frame, second, join, "" if spec is None else spec.table, self._mapping.name)
        return frame

    def _columns(self, spec: SideTable) -> list[str]:
        """Return the columns that the mapping reads: each file may lack some that another has."""
        needed = [*(column for source in spec.columns.values() for column in columns_of(source)), *spec.own]
        heads = [next(pieces(file, spec.csv)).frame for file in self._files.values()]
        held = [name for head in heads for name in self._joined(scalar_columns(head.head(0))).columns]
        require_columns(list(dict.fromkeys(held)), needed, spec.table, self._mapping.name)
        return list(dict.fromkeys(needed))

    def _read(
        self, piece: Piece, forms: ColumnForms, columns: list[str], label: str, start: int
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        spec, mapping = self._spec, self._mapping
        if spec is None:
            raise TypeError(f"{self._name}: not a table of the mapping")
        where = f"mapping {mapping.name}, table {spec.table}"
        require_scalars(piece.frame, [name for name in columns if name in piece.frame.columns], where)
        raw = self._joined(scalar_columns(piece.frame, forms))
        raw = raw.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in columns if name not in raw.columns)
        mapped, tests = _map(raw, spec, self._schema, mapping, where)
        if spec.own:
            mapped = mapped.hstack(raw.select(text(raw, name).alias(name) for name in spec.own))
        if piece.malformed is not None:
            nth = pl.int_range(raw.height, dtype=pl.UInt32, eager=True)
            tests.insert(0, (MALFORMED, pl.lit(nth.is_in(piece.malformed["nth"].implode()))))
        tests += [(f"{key}_missing", pl.lit(_empty(raw, spec, key))) for key in SIDE_KEYS[self._name]]
        bad, reasons = failed_tests(raw, tests)
        aside = pl.DataFrame({"_row": bad.arg_true() + start}).with_columns(reasons)
        quarantined = quarantine(raw.filter(bad), aside, label)
        if piece.malformed is not None:
            quarantined = with_lines(quarantined, piece.malformed, label, start)
        return mapped.filter(~bad), quarantined


def _empty(raw: pl.DataFrame, spec: SideTable, name: str) -> pl.Series:
    blank = [text(raw, column).is_null() for column in columns_of(spec.columns[name])]
    return raw.select(pl.all_horizontal(blank)).to_series()


def _map(
    frame: pl.DataFrame, spec: SideTable, schema: dict[str, Any], mapping: Mapping, where: str
) -> tuple[pl.DataFrame, list[tuple[str, pl.Expr]]]:
    """Return the schema's columns, and the tests of values that cannot be read."""
    done: list[pl.Series] = []
    tests: list[tuple[str, pl.Expr]] = []
    for name, kind in schema.items():
        source = spec.columns.get(name)
        if source is None:
            done.append(pl.Series(name, [None], dtype=kind).new_from_index(0, frame.height))
        elif kind == UTC_TIME and isinstance(source, str | DateAndTime):
            if isinstance(source, str):
                require_times(frame, [source], spec.time_formats, where)
            times = read_times(frame, source, mapping.time_zone, spec.time_formats, _EARLIEST)
            done.append(times["time"].alias(name))
            kinds = times["fault"].drop_nulls().unique().sort()
            tests += [(f"{name}_{fault}", pl.lit(times["fault"] == fault)) for fault in kinds]
        elif isinstance(source, DateAndTime):
            raise TypeError(f"{name}: not a time")
        elif kind == pl.String:
            value = id_text(frame, source) if isinstance(source, str) and name.endswith("_id") else path(frame, source)
            done.append(frame.select(value.alias(name)).to_series())
        else:
            value = (
                number(frame, source, kind, spec.csv)
                if isinstance(source, str)
                else path(frame, source).cast(kind, strict=False)
            )
            held = pl.any_horizontal([given(frame, column) for column in columns_of(source)])
            pair = frame.select(value.alias(name), held.alias("_given"))
            done.append(pair[name])
            tests.append((f"{name}_not_a_number", pl.lit(pair["_given"] & pair[name].is_null())))
    mapped = pl.DataFrame(done)
    if "known_at" in schema:  # a promotion is public when it begins, at the latest
        mapped = mapped.with_columns(pl.coalesce("known_at", "valid_from").alias("known_at"))
    return mapped, tests


def read_side(files: list[Path], name: str, mapping: Mapping, labels: Labels) -> Side:
    """Return the whole side table `name` of a mapping, in memory; see `SideReader` for large ones.

    Raises:
        MappingError, SourceError: see `SideReader`.
    """
    reader = SideReader(files, name, mapping, labels)
    rows = pl.concat([pl.DataFrame(schema=reader.schema), *reader.frames()])
    return Side(rows, reader.quarantined, reader.accounts)
