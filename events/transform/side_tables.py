"""Items, users, campaigns, promotions and stock: side tables to their schemas, with the account of every row."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import QUARANTINE_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from events.mapping import SIDE_KEYS, DateAndTime, Join, Mapping, SideTable, SplitPath, columns_of
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


def read_side(files: list[Path], name: str, mapping: Mapping, labels: Labels) -> Side:
    """Return the side table `name` of a mapping, each row once; a table that the mapping does not have is empty.

    Raises:
        MappingError: the table lacks columns that the mapping reads.
        SourceError: no given file is the table, and it is not optional; a file cannot be read, or a column does not
            hold text, numbers or times.
    """
    spec = mapping.sides.get(name)
    own = () if spec is None else spec.own
    rows = [pl.DataFrame(schema=SIDE_SCHEMAS[name] | dict.fromkeys(own, pl.String))]
    quarantined, accounts = [pl.DataFrame(schema=QUARANTINE_SCHEMA)], {}
    if spec is not None and (found := files_of(files, spec.table, mapping)):
        others = [(join, files_of(files, join.table, mapping)) for join in spec.joins]
        joins = tuple((join, second_table(join, paths, mapping.name)) for join, paths in others if paths)
        table = _Table(name, spec, mapping, joins)
        seen, columns = Seen(), table.columns(found)
        for file in found:
            label, forms, account = labels.take(file, name), column_forms_of(file), Counter[str]()
            reasons = Counter[str]()
            for piece in pieces(file, spec.csv):
                mapped, bad = table.read(piece, forms, columns, label, account["rows"])
                fresh = mapped.filter(seen.before(mapped.hash_rows()) == 0)
                account.update(rows=piece.frame.height, accepted=fresh.height, repeated=mapped.height - fresh.height)
                reasons.update(count_reasons(bad))
                rows.append(fresh)
                quarantined.append(bad)
            accounts[label] = TableAccount(account["rows"], account["accepted"], dict(reasons), account["repeated"])
    return Side(pl.concat(rows), pl.concat(quarantined), accounts)


@dataclass(frozen=True)
class _Table:
    """A side table of a mapping, and the tables that it joins."""

    name: str
    spec: SideTable
    mapping: Mapping
    joins: tuple[tuple[Join, pl.DataFrame], ...]

    def _joined(self, frame: pl.DataFrame) -> pl.DataFrame:
        for join, second in self.joins:
            frame = joined(frame, second, join, self.spec.table, self.mapping.name)
        return frame

    def columns(self, files: list[Path]) -> list[str]:
        """Return the columns that the mapping reads: each file may lack some that another has."""
        spec = self.spec
        needed = [*(column for source in spec.columns.values() for column in columns_of(source)), *spec.own]
        heads = [next(pieces(file, spec.csv)).frame for file in files]
        present = [name for head in heads for name in self._joined(scalar_columns(head.head(0))).columns]
        require_columns(list(dict.fromkeys(present)), needed, spec.table, self.mapping.name)
        return list(dict.fromkeys(needed))

    def read(
        self, piece: Piece, forms: ColumnForms, columns: list[str], label: str, start: int
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows of a piece in the schema of the table, and QUARANTINE_SCHEMA of the others."""
        spec = self.spec
        where = f"mapping {self.mapping.name}, table {spec.table}"
        require_scalars(piece.frame, [name for name in columns if name in piece.frame.columns], where)
        raw = self._joined(scalar_columns(piece.frame, forms))
        raw = raw.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in columns if name not in raw.columns)
        mapped, tests = _map(raw, spec, SIDE_SCHEMAS[self.name], self.mapping, where)
        if spec.own:
            mapped = mapped.hstack(raw.select(text(raw, name).alias(name) for name in spec.own))
        if piece.malformed is not None:
            nth = pl.int_range(raw.height, dtype=pl.UInt32, eager=True)
            tests.insert(0, (MALFORMED, pl.lit(nth.is_in(piece.malformed["nth"].implode()))))
        for key in SIDE_KEYS[self.name]:
            empty = pl.all_horizontal(text(raw, column).is_null() for column in columns_of(spec.columns[key]))
            tests.append((f"{key}_missing", pl.lit(raw.select(empty).to_series())))
        bad, reasons = failed_tests(raw, tests)
        marks = pl.DataFrame({"_row": bad.arg_true() + start}).with_columns(reasons)
        quarantined = quarantine(raw.filter(bad), marks, label)
        if piece.malformed is not None:
            quarantined = with_lines(quarantined, piece.malformed, label, start)
        return mapped.filter(~bad), quarantined


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
        elif isinstance(source, DateAndTime) or (kind == UTC_TIME and not isinstance(source, SplitPath)):
            if not isinstance(source, DateAndTime):
                require_times(frame, columns_of(source), spec.time_formats, where)
            times = read_times(frame, source, mapping.time_zone, spec.time_formats, _EARLIEST)
            done.append(times["time"].alias(name))
            kinds = times["fault"].drop_nulls().unique().sort()
            tests += [(f"{name}_{fault}", pl.lit(times["fault"] == fault)) for fault in kinds]
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
