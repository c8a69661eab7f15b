"""Items, users and campaigns: side tables to their schemas, with the account of every row."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import QUARANTINE_SCHEMA, UTC_TIME
from events.joins import joined, require_columns, second_table
from events.mapping import SIDE_KEYS, Mapping, SideTable
from events.plain import plain, require_plain
from events.quarantine import judge, quarantine
from events.sources.files import Labels, select_files
from events.sources.readers import pieces
from events.times import moment, require_times
from events.transform import ROW_TOO_SHORT
from events.values import columns_of, given, number, path, text
from shoplens.errors import SourceError


@dataclass(frozen=True)
class Side:
    """A side table: its rows to the schema, those set aside, and the accounts of its files."""

    rows: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]


def _needed(spec: SideTable) -> list[str]:
    return [*(column for category in spec.columns.values() for column in columns_of(category)), *spec.own]


def _column(frame: pl.DataFrame, name: str, kind: Any, spec: SideTable, mapping: Mapping) -> pl.Expr:
    category = spec.columns[name]
    if kind == pl.String:
        return path(frame, category)
    if not isinstance(category, str):
        return path(frame, category).cast(kind, strict=False)
    if kind == UTC_TIME:
        return moment(frame, category, mapping.time_zone, next(iter(spec.time_formats), None))
    return number(frame, category, kind)


def _map(
    frame: pl.DataFrame, short: pl.Series | None, key: str, spec: SideTable, schema: dict[str, Any], mapping: Mapping
) -> tuple[pl.DataFrame, pl.Series, pl.DataFrame]:
    """Return the schema's and the source's own columns; which rows are bad; and `_row` and `_reasons` of these."""
    columns = {name: _column(frame, name, schema[name], spec, mapping) for name in schema if name in spec.columns}
    mapped = frame.select(
        *(columns.get(name, pl.lit(None, dtype=kind)).alias(name) for name, kind in schema.items()),
        *(text(frame, name).alias(name) for name in spec.own),
    )
    tests = [] if short is None else [(ROW_TOO_SHORT, pl.lit(short))]
    tests.append((f"{key}_missing", pl.lit(mapped[key].is_null())))
    for name in columns:
        if schema[name] != pl.String:
            held = pl.any_horizontal([given(frame, source) for source in columns_of(spec.columns[name])])
            what = "not_a_time" if schema[name] == UTC_TIME else "not_a_number"
            tests.append((f"{name}_{what}", held & pl.lit(mapped[name].is_null())))
    bad, reasons = judge(frame, tests)
    aside = pl.DataFrame({"_row": bad.arg_true()}).with_columns(reasons)
    return mapped, bad, aside


def _read_file(file: Path, spec: SideTable) -> tuple[pl.DataFrame, pl.Series | None]:
    """Return the rows of a file, and which of them have fewer columns than the header."""
    found = list(pieces(file, spec.csv))
    frame = pl.concat([piece.frame for piece in found])
    if all(piece.malformed is None for piece in found):
        return frame, None
    numbers = [range(piece.frame.height) for piece in found]
    marked = [set() if piece.malformed is None else set(piece.malformed["nth"]) for piece in found]
    short = [number in those for rows, those in zip(numbers, marked, strict=True) for number in rows]
    return frame, pl.Series("short", short, dtype=pl.Boolean)


def _read(
    files: list[Path], spec: SideTable, others: list[Path], mapping: Mapping
) -> list[tuple[pl.DataFrame, pl.Series | None]]:
    """Return the table of every file, each with all columns that the mapping reads and any of them has."""
    tables = [_read_file(file, spec) for file in files]
    if spec.joins:
        second = second_table(spec.joins[0], others, mapping.name)
        tables = [
            (joined(plain(frame), second, spec.joins[0], spec.table, mapping.name), short) for frame, short in tables
        ]
    columns = list(dict.fromkeys(name for frame, _ in tables for name in frame.columns))
    require_columns(columns, _needed(spec), spec.table, mapping.name)
    read = []
    for frame, short in tables:
        absent = [name for name in dict.fromkeys(_needed(spec)) if name not in frame.columns]
        read.append((frame.with_columns([pl.lit(None, dtype=pl.String).alias(name) for name in absent]), short))
    return read


def _files_of(files: list[Path], table: str, mapping: Mapping) -> list[Path]:
    found = select_files(files, table)
    if not found:
        raise SourceError(
            f"mapping {mapping.name}: table {table} is in none of the {len(files)} given files; give it too, "
            f"or take it out of the mapping"
        )
    return found


def read_side(files: list[Path], name: str, schema: dict[str, Any], mapping: Mapping, labels: Labels) -> Side:
    """Bring the side table `name` of a mapping to its schema; the source's own columns follow as text.

    Raises:
        MappingError: the table lacks columns that the mapping reads.
        SourceError: a file is missing or unreadable, or a joined table has several rows for one key.
    """
    spec: SideTable | None = getattr(mapping, name)
    if spec is None:
        return Side(pl.DataFrame(schema=schema), pl.DataFrame(schema=QUARANTINE_SCHEMA), {})
    found = _files_of(files, spec.table, mapping)
    others = _files_of(files, spec.joins[0].table, mapping) if spec.joins else []
    taken = [labels.take(file, name) for file in found]
    where = f"mapping {mapping.name}, table {spec.table}"
    times = [c for n, kind in schema.items() if kind == UTC_TIME and isinstance(c := spec.columns.get(n), str)]
    parts, set_aside, heights = [], [], []
    for place, (frame, short) in enumerate(_read(found, spec, others, mapping)):
        require_plain(frame, _needed(spec), where)
        require_times(frame, times, next(iter(spec.time_formats), None), where)
        raw = plain(frame)
        mapped, bad, aside = _map(raw, short, SIDE_KEYS[name][0], spec, schema, mapping)
        set_aside.append(quarantine(raw.filter(bad), aside, taken[place]))
        parts.append(mapped.filter(~bad).with_columns(pl.lit(place).alias("_part")))
        heights.append(frame.height)
    rows = pl.concat(parts)
    kept = rows.filter(pl.struct(pl.exclude("_part")).is_first_distinct())
    accounts = {}
    for place, label in enumerate(taken):
        accepted = kept.filter(pl.col("_part") == place).height
        again = parts[place].height - accepted
        accounts[label] = TableAccount(heights[place], accepted, count_reasons(set_aside[place]), again)
    return Side(kept.drop("_part"), pl.concat(set_aside), accounts)
