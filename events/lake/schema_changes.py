"""Schema changes of a source: the lake remembers its columns, and changes are reported or rejected.

A new, missing or wider column reveals a change that the shop may not have announced. Changes that the lake can store
are reported; changes that would leave a mapped column without values are rejected before anything is read.
"""

import json
import tempfile
import zlib
from difflib import SequenceMatcher
from pathlib import Path
from re import split as split_at
from typing import Any

import polars as pl

from events.contract import EVENT_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from events.lake.table import ACCOUNTS, Lake
from events.mapping import Csv, EventTable, Mapping, SideTable, columns_of
from events.sources.files import find_files, kind_of, open_unpacked, select_files
from events.sources.readers import read_table
from events.transform.records import sources_of
from shoplens.errors import SourceError

Sources = dict[str, dict[str, str]]
"""The kind of each column, by table and column, from the first rows of the files.

A kind is a key of `_WIDER`; `text:int` and similar kinds are text columns with such values.
"""
_IN_TEXT = "text:"
_ROWS = 1000
_BYTES = 1 << 20
_MOST = 0.5  # share of the values; a few bad ones are rows to quarantine, not another type
_ENOUGH = 10  # number of texts from which a share is meaningful
# kind -> kinds that can hold all its values
_WIDER: dict[str, tuple[str, ...]] = {
    "boolean": ("text",),
    "int": ("float", "text"),
    "float": ("text",),
    "date": ("timestamp", "text"),
    "timestamp": ("text",),
    "text": (),
    "nested": (),
}
_WIDER["empty"] = tuple(_WIDER)
_DATE = r"^(\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{4})"
_SHAPES = {  # kinds of text, narrowest first; a number with a leading zero is an identifier
    "int": r"^-?(0|[1-9]\d*)$",
    "float": r"^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$",
    "date": f"{_DATE}$",
    "timestamp": rf"{_DATE}[T ]\d{{1,2}}:\d{{2}}",
}


def _head(path: Path, dialect: Csv) -> pl.DataFrame:
    """Return the first rows of a file; empty if it cannot be read, which the full read will report."""
    try:
        if kind_of(path) == ".parquet":
            return pl.read_parquet(path, n_rows=_ROWS, glob=False, hive_partitioning=False)
        with tempfile.TemporaryDirectory(prefix="shoplens-head-") as folder, open_unpacked(path) as stream:
            # Read a truncated copy: the text reader scans the whole file before it returns the first row.
            copy, start = Path(folder, path.name), stream.read(_BYTES)
            copy.write_bytes(start if len(start) < _BYTES else start[: start.rfind(b"\n") + 1])
            return read_table(copy, dialect).head(_ROWS)
    except (SourceError, OSError, EOFError, zlib.error, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return pl.DataFrame()


def _kind(values: pl.Series) -> str:
    """Return the kind of a column; text is classified by its values."""
    dtype = values.dtype
    if dtype == pl.String:
        texts = values.str.strip_chars().replace("", None).drop_nulls()
        shares: dict[str, Any] = {kind: texts.str.contains(shape).mean() for kind, shape in _SHAPES.items()}
        kinds = (f"{_IN_TEXT}{kind}" for kind, share in shares.items() if share >= _MOST)
        return "empty" if texts.len() < _ENOUGH else next(kinds, "text")
    fits = {
        "empty": values.null_count() == values.len() or (dtype.is_float() and not values.is_finite().any()),
        "int": dtype.is_integer(),
        "float": dtype.is_float() or dtype.is_decimal(),
        "date": dtype == pl.Date,
        "timestamp": dtype == pl.Datetime,
        "boolean": dtype == pl.Boolean,
    }
    return next((kind for kind, fit in fits.items() if fit), "nested")


def source_columns(mapping: Mapping, inputs: list[Path]) -> Sources:
    """Return the columns of a source's tables, from the first rows of their files.

    Raises:
        SourceError: an input does not exist or its file type is unknown.
    """
    found: Sources = {}
    files = find_files(inputs)
    tables: tuple[EventTable | SideTable, ...] = (*mapping.events, *mapping.sides.values())
    for spec in (one for table in tables for one in (table, *table.joins)):
        for path in select_files(files, spec.table):
            kinds = {column.name: _kind(column) for column in _head(path, spec.csv)}
            found[spec.table] = found.get(spec.table, {}) | _widest(found.get(spec.table, {}), kinds)
    return {table: columns for table, columns in found.items() if columns}


def _values(kind: str) -> str:
    """Return the kind of a column's values, whether or not they are stored as text."""
    return kind.removeprefix(_IN_TEXT)


def _widest(known: dict[str, str], columns: dict[str, str]) -> dict[str, str]:
    """Return each column with the widest kind it has had."""
    return {
        name: kind if _values(kind) in _WIDER[_values(known.get(name, "empty"))] else known.get(name, kind)
        for name, kind in columns.items()
    }


def _read_as(mapping: Mapping, table: str, old: set[str], new: set[str]) -> tuple[dict[str, str], set[str]]:
    """Return the type that each column is read as (text, number, time), and the columns that a file may lack."""
    roles: dict[str, str] = {}
    optional: set[str] = set()

    def roots(source: Any) -> set[str]:  # a column, or the first part of an address inside a record
        return {one if one in old | new else split_at(r"[.\[]", one)[0] for one in columns_of(source)}

    specs: list[tuple[EventTable | SideTable, dict[str, Any]]] = [(spec, EVENT_SCHEMA) for spec in mapping.events]
    for spec, schema in [*specs, *((spec, SIDE_SCHEMAS[name]) for name, spec in mapping.sides.items())]:
        if spec.table != table:
            continue
        reads: list[tuple[Any, Any]] = [(source, schema[name]) for name, source in spec.columns.items()]
        if isinstance(spec, EventTable):
            others = sources_of(spec)
            reads += [(source, pl.String()) for source in (*others, spec.identified_by)]
            # A file may lack a column because it has an alternative that the mapping accepts.
            alternatives = [roots(one) for one in others if isinstance(one, tuple) and one not in spec.items.values()]
            optional |= set(spec.optional).union(*(names for names in alternatives if names & new))
        else:
            reads.append((spec.own, pl.String()))
        for source, kind in reads:
            for root in roots(source):
                roles.setdefault(root, "time" if kind == UTC_TIME else "number" if kind.is_numeric() else "text")
    return roles, optional


def _typed(where: str, name: str, old: str, new: str, role: str | None) -> list[str]:
    """Describe a column that became wider; raise a SourceError if values would be lost or IDs would change."""
    was, now = _values(old), _values(new)
    if was == now or "empty" in (was, now):
        return []
    unreadable = {
        "number": was != "text" and now not in ("int", "float"),  # invalid values can only become valid
        "time": was != "text" and (was, now) != ("date", "timestamp"),
        "text": was == "text" and new in ("int", "float"),  # an ID such as 007 would be 7
    }
    if role is not None and unreadable[role]:
        change = "a narrower" if was in _WIDER[now] else "another"
        raise SourceError(
            f"mapping {where}: column {name}: must stay {was}, as in the lake, or become wider; received "
            f"{now}, which is {change} type. Write it as {was} again; if the change is meant, give the mapping another "
            f"name, under which the source begins anew. Nothing was read"
        )
    return [f"{where}: column {name} is wider: {was} before, {now} now"] if now in _WIDER[was] else []


def _gone(where: str, name: str, was: str, free: list[str], *, read: bool) -> str:
    """Describe a column that is gone; if the mapping reads it, raise a SourceError that suggests a renamed column."""
    gone = f"{where}: column {name} ({_values(was)}) is gone"
    if not read:
        return gone
    nearest = sorted(free, key=lambda one: -SequenceMatcher(None, name, one).ratio())
    renamed = f"If it was renamed, write its new name in the mapping ({', '.join(nearest)}?); else bring"
    raise SourceError(
        f"mapping {gone}, which the mapping reads. {renamed if free else 'Bring'} it back, or take it out of the "
        f"mapping. Nothing was read"
    )


def changes(known: Sources, mapping: Mapping, sources: Sources) -> list[str]:
    """Return the changes in a source's tables since they were last read, as human-readable lines.

    Raises:
        SourceError: a column that the mapping reads is gone, or has a type that does not fit what the lake holds.
    """
    lines = []
    for table, new in sources.items():
        old = known.get(table, {})
        if not set(old) & set(new):
            continue  # a file with none of the columns is a different file: its reader reports what is missing
        roles, optional = _read_as(mapping, table, set(old), set(new))
        free = [name for name in new if name not in old and name not in roles]
        where = f"{mapping.name}, table {table}"
        for name, was in old.items():
            if name in new:
                lines += _typed(where, name, was, new[name], roles.get(name))
            else:
                lines.append(_gone(where, name, was, free, read=name in roles and name not in optional))
        kept = "kept in attributes" if table in {spec.table for spec in mapping.events} else "not read"
        lines += [f"{table}: new column {name}, {kept}" for name in free]
    return lines


def known_sources(lake: Lake, mapping: str) -> Sources:
    """Return the columns of a mapping's tables, as recorded with the newest batch ingested through that mapping."""
    table = lake.find(ACCOUNTS)
    if table is None:
        return {}
    rows = pl.scan_delta(table).select("batch", "mapping", "version", "sources", "reverts").collect()
    reverted = rows["reverts"].drop_nulls().implode()
    rows = rows.filter(pl.col("mapping") == mapping, ~pl.col("batch").is_in(reverted)).drop_nulls("sources")
    found: Sources = json.loads(rows.sort("version")["sources"][-1]) if rows.height else {}
    return found


def merged_sources(known: Sources, sources: Sources) -> str | None:
    """Return JSON for the next account: the columns of these tables, and the other tables unchanged."""
    merged = known | {table: _widest(known.get(table, {}), columns) for table, columns in sources.items()}
    return json.dumps(merged, sort_keys=True) if merged else None
