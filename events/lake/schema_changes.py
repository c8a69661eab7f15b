"""The columns of a source's tables, remembered by the lake: changes of a source are reported, or rejected.

A new, missing, wider or renamed column shows a change at the shop that nobody may have announced. What the lake can
store is reported; what would put other values under the same name is rejected before anything is read.
"""

import json
import tempfile
import zlib
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from re import split as split_at

import polars as pl

from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA, UTC_TIME
from events.lake.table import ACCOUNTS, Lake
from events.mapping import Csv, EventTable, Mapping, SideTable, columns_of
from events.sources.files import find_files, kind_of, open_unpacked, select_files
from events.sources.readers import read_table
from shoplens.errors import SourceError


@dataclass(frozen=True)
class Column:
    """What is known of a column of a source, from the first rows of its files.

    Attributes:
        kind: Its type, a key of `_WIDER`.
        declared: Whether the file declares it; else it is what most of the values are.
        values: How many there were.
        given: Share of the rows that have one.
        length: Characters of a value, on average.
        distinct: Different values, as a share of all.
    """

    kind: str
    declared: bool
    values: int
    given: float
    length: float
    distinct: float


Sources = dict[str, dict[str, Column]]  # by table and column
_ROWS = 1000
_BYTES = 1 << 20
_MOST = 0.5  # of the values: a few bad ones are rows for the quarantine, not another type
_ENOUGH = 10  # values of which "most" says something
_ALIKE = 0.8
# kind -> the kinds that hold all that it holds
_WIDER: dict[str, tuple[str, ...]] = {
    "boolean": ("text",),
    "int32": ("int64", "float", "text"),
    "int64": ("float", "text"),
    "float": ("text",),
    "date": ("timestamp", "text"),
    "timestamp": ("text",),
    "text": (),
    "nested": (),
}
_WIDER["empty"] = tuple(_WIDER)
_NUMBERS = ("int32", "int64", "float")
_DATE = r"^\d{4}-\d{2}-\d{2}$|^\d{1,2}[./]\d{1,2}[./]\d{4}$"
_TIME = r"^(\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{4})[T ]\d{1,2}:\d{2}"
_SHAPES = {  # of text, the narrowest first; a number with a leading zero is a name
    "int64": r"^-?(0|[1-9]\d*)$",
    "float": r"^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$",
    "date": _DATE,
    "timestamp": _TIME,
}


def _head(path: Path, dialect: Csv) -> pl.DataFrame:
    """Return the first rows of a file; none of one that cannot be read: reading all of it reports why."""
    try:
        if kind_of(path) == ".parquet":
            return pl.read_parquet(path, n_rows=_ROWS, glob=False, hive_partitioning=False)
        with tempfile.TemporaryDirectory(prefix="shoplens-head-") as folder, open_unpacked(path) as stream:
            # A copy: the reader of a text file goes through all of it before it returns the first row.
            copy, start = Path(folder, path.name), stream.read(_BYTES)
            copy.write_bytes(start if len(start) < _BYTES else start[: start.rfind(b"\n") + 1])
            return read_table(copy, dialect).head(_ROWS)
    except (SourceError, OSError, EOFError, zlib.error, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return pl.DataFrame()


def _kind_of_text(values: pl.Series) -> str:
    for kind, shape in _SHAPES.items():
        if (values.str.contains(shape).mean() or 0.0) >= _MOST:  # type: ignore[operator]
            return kind
    return "text"


def _kind(values: pl.Series) -> tuple[str, bool]:
    """Return the kind of a column, and whether its file declares it; what text holds is judged by its values."""
    kind = values.dtype
    if kind == pl.String:
        return _kind_of_text(values.str.strip_chars()), False
    if kind.is_integer():
        return ("int64" if kind in (pl.Int64, pl.UInt32, pl.UInt64, pl.Int128) else "int32"), True
    if kind.is_float() or kind.is_decimal():
        numbers = values.cast(pl.Float64)
        finite = numbers.filter(numbers.is_finite())
        # pandas writes whole numbers with a missing one among them as floats
        whole = bool((finite == finite.floor()).all())
        return ("int64", False) if whole else ("float", True)
    if kind == pl.Date:
        return "date", True
    if isinstance(kind, pl.Datetime):
        return "timestamp", True
    return ("boolean" if kind == pl.Boolean else "nested"), True


def _column(values: pl.Series, rows: int) -> Column:
    """Return what is known of a column as a whole; nothing of a single row is kept."""
    held = values.drop_nulls()
    if held.dtype == pl.String:
        held = held.filter(held != "")
    if held.is_empty() or held.dtype == pl.Null:
        return Column(kind="empty", declared=False, values=0, given=0.0, length=0.0, distinct=0.0)
    kind, declared = _kind(held)
    texts = held.cast(pl.String, strict=False) if kind != "nested" else pl.Series([""])
    return Column(
        kind=kind,
        declared=declared,
        values=held.len(),
        given=round(held.len() / rows, 4),
        length=round(float(texts.str.len_chars().mean() or 0.0), 2),  # type: ignore[arg-type]
        distinct=round(texts.n_unique() / max(texts.len(), 1), 4),
    )


def source_columns(mapping: Mapping, inputs: list[Path]) -> Sources:
    """Return what the tables of a source look like, from the first rows of their files.

    Raises:
        SourceError: an input does not exist or is of no known kind.
    """
    found: Sources = {}
    files = find_files(inputs)
    tables: tuple[EventTable | SideTable, ...] = (*mapping.events, *mapping.sides.values())
    for spec in (one for table in tables for one in (table, *table.joins)):
        columns = found.setdefault(spec.table, {})
        for path in select_files(files, spec.table):
            head = _head(path, spec.csv)
            for name in head.columns:
                columns[name] = _widest(columns.get(name), _column(head[name], head.height))
    return {table: columns for table, columns in found.items() if columns}


def _known_root(address: str, columns: dict[str, Column]) -> str:
    """Return the column of the file that an address inside a record starts with."""
    return address if address in columns else split_at(r"[.\[]", address)[0]


def _read_as(mapping: Mapping, table: str, columns: dict[str, Column]) -> tuple[dict[str, str], set[str]]:
    """Return what each column of a table is read as (text, number, time), and those that a file may lack."""
    schema = EVENT_SCHEMA | ITEM_SCHEMA | USER_SCHEMA | CAMPAIGN_SCHEMA
    roles: dict[str, str] = {}
    optional: set[str] = set()
    for spec in (*mapping.events, mapping.items, mapping.users, mapping.campaigns):
        if spec is None or spec.table != table:
            continue
        optional |= set(getattr(spec, "optional", ()))
        for name, source in spec.columns.items():
            kind = schema[name]
            role = "time" if kind == UTC_TIME else "number" if kind.is_numeric() else "text"
            roles |= {_known_root(one, columns): role for one in columns_of(source)}
        others = [*getattr(spec, "own", ()), *getattr(spec, "identified_by", ())]
        others += [column for category in getattr(spec, "items", {}).values() for column in columns_of(category)]
        others += [column for rule in getattr(spec, "reject", ()) for column in columns_of(rule.column)]
        for one in others:
            roles.setdefault(_known_root(one, columns), "text")
    return roles, optional


def _with_alternatives(mapping: Mapping, table: str, new: dict[str, Column]) -> set[str]:
    """Return columns that a file may lack because it has another that the mapping accepts in their place."""
    specs = [spec for spec in mapping.events if spec.table == table]
    sources = [source for spec in specs for source in (*spec.columns.values(), *(rule.column for rule in spec.reject))]
    roots = [{_known_root(one, new) for one in source} for source in sources if isinstance(source, tuple)]
    return {name for names in roots if names & set(new) for name in names}


def _guess(gone: str, was: Column, new: dict[str, Column]) -> str | None:
    """Return the new column that is most like the one that is gone, by kind, values and name; None for no such."""

    def like(column: Column) -> float:
        length = abs(column.length - was.length) / max(column.length, was.length, 1.0)
        return 1 - (abs(column.given - was.given) + length + abs(column.distinct - was.distinct)) / 3

    fitting = {name: like(column) for name, column in new.items() if column.kind == was.kind}
    good = {name: alike for name, alike in fitting.items() if alike >= _ALIKE}
    return max(good, key=lambda name: good[name] + SequenceMatcher(None, name, gone).ratio(), default=None)


def _refusal(old: Column, new: Column, role: str) -> str | None:
    """Return how a change of type breaks a column that is read, `narrower` or `another`; None where it does not."""
    if not new.declared and new.values < _ENOUGH:
        return None  # rows that do not fit are quarantined one by one
    # Any value is text; and a column of bad values can only become better.
    if (role == "text" and not new.declared) or (role != "text" and old.kind == "text"):
        return None
    if role == "time" and (old.kind, new.kind) != ("date", "timestamp"):
        return "narrower" if (old.kind, new.kind) == ("timestamp", "date") else "another"
    if role == "number" and new.kind not in _NUMBERS:
        return "another"
    if old.kind in _WIDER[new.kind]:
        return "narrower" if new.declared else None
    return None if new.kind in _WIDER[old.kind] or role == "number" else "another"


def _changes_of(mapping: Mapping, table: str, old: dict[str, Column], new: dict[str, Column]) -> list[str]:
    roles, optional = _read_as(mapping, table, old | new)
    optional |= _with_alternatives(mapping, table, new)
    where = f"mapping {mapping.name}, table {table}"
    added = {name: column for name, column in new.items() if name not in old}
    free = {name: column for name, column in added.items() if name not in roles}
    lines = []
    for name, was in old.items():
        if name not in new:
            lines.append(_gone(where, name, was, free, added, read=name in roles and name not in optional))
        elif new[name].kind not in (was.kind, "empty") and was.kind != "empty":
            lines += _typed(where, name, was, new[name], roles.get(name))
    kept = "kept in attributes" if table in {spec.table for spec in mapping.events} else "not read"
    lines += [f"{table}: new column {name} ({column.kind}), {kept}" for name, column in free.items()]
    return [line.removeprefix("mapping ") for line in lines]


def _gone(where: str, name: str, was: Column, free: dict[str, Column], added: dict[str, Column], *, read: bool) -> str:
    alike = _guess(name, was, free if read else added)
    if not read:
        seems = f"; {alike} seems to be the same under another name" if alike else ""
        return f"{where}: column {name} ({was.kind}) is gone{seems}"
    if alike:
        raise SourceError(
            f"{where}: column {name} ({was.kind}) is gone, and {alike} ({free[alike].kind}) is new and looks like it. "
            f"If it was renamed, write {alike} in place of {name} in the mapping; nothing was read"
        )
    raise SourceError(
        f"{where}: column {name} ({was.kind}) is gone, which the mapping reads; no new column looks like it. Bring it "
        f"back, or take it out of the mapping; nothing was read"
    )


def _typed(where: str, name: str, was: Column, now: Column, role: str | None) -> list[str]:
    if role is None:
        return [f"{where}: column {name} was {was.kind} and is {now.kind}"] if now.declared else []
    refused = _refusal(was, now, role)
    if refused is not None:
        raise SourceError(
            f"{where}: column {name}: must go on being {was.kind}, as in the lake, or become wider; received "
            f"{now.kind}, which is {'a narrower' if refused == 'narrower' else 'another'} type. Write it as "
            f"{was.kind} again; if the change is meant, give the mapping another name, under which the source "
            f"begins anew. Nothing was read"
        )
    wider = now.kind in _WIDER[was.kind] and (now.declared or now.values >= _ENOUGH)
    return [f"{where}: column {name} is wider: {was.kind} before, {now.kind} now"] if wider else []


def changes(known: Sources, mapping: Mapping, sources: Sources) -> list[str]:
    """Return what has changed in the tables of a source since they were last read, as lines for a person.

    Raises:
        SourceError: a column that the mapping reads is gone, or has a type that does not fit what the lake holds.
    """
    lines = []
    for table, columns in sources.items():
        # A file without any of the columns is another one: its reader reports what is missing.
        if set(known.get(table, {})) & set(columns):
            lines += _changes_of(mapping, table, known[table], columns)
    return lines


def known_sources(lake: Lake, mapping: str) -> Sources:
    """Return what the lake knows of the tables that a mapping reads, from the account of its newest batch."""
    table = lake.find(ACCOUNTS)
    if table is None:
        return {}
    rows = pl.scan_delta(table).select("batch", "mapping", "version", "sources", "reverts").collect()
    rows = rows.filter(pl.col("mapping") == mapping, pl.col("sources").is_not_null()).join(
        rows.select("reverts"), left_on="batch", right_on="reverts", how="anti"
    )
    if rows.is_empty():
        return {}
    newest = json.loads(rows.sort("version")["sources"][-1])
    return {table: {name: Column(**column) for name, column in columns.items()} for table, columns in newest.items()}


def merged_sources(before: Sources, sources: Sources) -> Sources:
    """Return what is known of all tables with these in it: of every column the widest type that it has had."""
    tables = {
        table: {name: _widest(before.get(table, {}).get(name), column) for name, column in columns.items()}
        for table, columns in sources.items()
    }
    return before | tables


def _widest(was: Column | None, now: Column) -> Column:
    if was is None:
        return now
    if not now.declared and now.values < min(_ENOUGH, was.values):
        return was
    return now if was.kind == now.kind or now.kind in _WIDER[was.kind] else was
