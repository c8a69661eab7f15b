"""Flatten nested records and joined tables to the rows that a mapping reads.

An address names a value of a record: a column (`user_id`), a field inside one (`ecommerce.transaction_id`), or the
value of a key in a list of pairs, as Google Analytics writes its parameters (`event_params[page_location]`). A record
need not have every field. An address that no record has becomes an empty column and is reported.
"""

import io
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from events.account import Faults
from events.contract import UTC_TIME
from events.mapping import (
    NTH,
    Category,
    DateAndTime,
    Elapsed,
    EventTable,
    FillDown,
    Join,
    Mapping,
    SideTable,
    Test,
    columns_of,
)
from events.sources.files import MALFORMED, files_of
from events.sources.readers import read_table
from events.transform.columns import held, id_text, number, scalar_columns, text
from shoplens.errors import MappingError, SourceError

POSITION = "_position"  # position of an element in the list that `each` names
_RECORD, _WRONG = "_record", "_wrong"
_KEYED = re.compile(r"(?P<list>.+)\[(?P<key>[^\[\]]+)\]")


@dataclass(frozen=True)
class Rows:
    """The rows of an events table, or of a piece of it.

    Attributes:
        frame: The source's columns, plus one column per address that the mapping reads.
        derived: Columns added by the reader, which are excluded from attributes and whole-row IDs.
        faults: Reasons, each with the rows that cannot be read.
        absent, unread: Mapped addresses that none of these records has; addresses in the records that are not mapped.
    """

    frame: pl.DataFrame
    derived: frozenset[str]
    faults: tuple[tuple[str, pl.Series], ...] = ()
    absent: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()


def sources_of(spec: EventTable) -> list[Category | DateAndTime]:
    """Return all source columns that a table's entry reads, except those only used for derived IDs."""
    tests = [test.column for test in (*spec.only, *spec.reject, *spec.discounts)]
    added = [] if spec.time_plus is None else [spec.time_plus.column]
    more = [one for one in (spec.order_amount, spec.version_by) if one is not None]
    return [*spec.columns.values(), *tests, *spec.items.values(), *added, *more]


def require_columns(columns: Sequence[str], needed: Sequence[str], table: str, mapping: str) -> None:
    """Raise a MappingError if the table lacks columns that the mapping reads."""
    missing = [name for name in dict.fromkeys(needed) if name not in columns]
    if missing:
        raise MappingError(
            f"mapping {mapping}: table {table} must have column(s) {', '.join(missing)}; it has "
            f"{', '.join(name for name in columns if name != MALFORMED)}. Correct the mapping or give the right file"
        )


def _field(frame: pl.DataFrame, address: str) -> pl.Expr | None:
    """Return an expression for a field at an address, or None if there is none; the longest matching column wins."""
    parts = address.split(".")
    sizes = (size for size in range(len(parts), 0, -1) if ".".join(parts[:size]) in frame.columns)
    if (size := next(sizes, None)) is None:
        return None
    column = ".".join(parts[:size])
    value = pl.col(column)
    kind: Any = frame.schema[column]
    for name in parts[size:]:
        fields = kind.to_schema() if isinstance(kind, pl.Struct) else {}
        if name not in fields:
            return None
        value, kind = value.struct.field(name), fields[name]
    return value


def _value(frame: pl.DataFrame, address: str) -> pl.Expr | None:
    """Return an expression for the value at an address, or None if no record has it.

    In a list of {key, value} pairs, a value may have one field per type; the field that is set wins.
    """
    keyed = None if address in frame.columns else _KEYED.fullmatch(address)
    pairs = _field(frame, address if keyed is None else keyed["list"])
    if keyed is None or pairs is None:
        return pairs
    kind = frame.select(pairs).schema.dtypes()[0]
    inner = kind.inner if isinstance(kind, pl.List) else None
    names = inner.to_schema() if isinstance(inner, pl.Struct) else {}
    if not {"key", "value"} <= set(names):
        if kind in (pl.Null, pl.List(pl.Null)):
            return None
        raise MappingError(
            f"address {address}: {keyed['list']} must be a list of records with key and value; it is {kind}"
        )
    element = pl.element()
    found = pairs.list.eval(element.filter(element.struct.field("key") == keyed["key"])).list.first()
    found, typed = found.struct.field("value"), names["value"]
    if isinstance(typed, pl.Struct):
        values = [found.struct.field(f.name).cast(pl.String) for f in typed.fields if not f.dtype.is_nested()]
        found = pl.coalesce(values) if values else pl.lit(None, dtype=pl.String)
    found = found.cast(pl.String)
    return None if frame.select(found.null_count()).item() == frame.height else found


def _may_be_absent(frame: pl.DataFrame, address: str, optional: tuple[str, ...]) -> bool:
    """Return whether an address may be absent: records need not have every field, but tables must have every column."""
    parts = re.split(r"[.\[]", address)
    starts = {".".join(parts[: n + 1]) for n in range(len(parts))}
    inside = len(parts) > 1 and bool(starts & set(frame.columns))
    return inside or bool(starts & set(optional)) or any(kind.is_nested() for kind in frame.dtypes)


def _lists(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return a column as lists of records, parsing JSON text, and a mask of the values that are not lists."""
    if isinstance(values.dtype, pl.List) or values.dtype == pl.Null:
        return values, pl.repeat(value=False, n=len(values), eager=True)
    lists: list[list[Any] | None] = []
    for value in values:
        found = None
        with suppress(ValueError):  # text that is not JSON is reported as another type
            found = json.loads(value) if isinstance(value, str) and value else None
        lists.append(found if isinstance(found, list) else None)
    wrong = pl.Series([one is None for one in lists]) & values.is_not_null() & (values.cast(pl.String) != "")
    lines = "\n".join(json.dumps({"x": value}) for value in lists)
    return pl.read_ndjson(io.StringIO(lines), infer_schema_length=None)["x"], wrong


def _unfold(frame: pl.DataFrame, each: str, optional: tuple[str, ...]) -> tuple[pl.DataFrame, Faults]:
    """Return one row per list element at `each`, or one per record without elements; and a mask of non-lists."""
    value = _value(frame, each)
    if value is None and not _may_be_absent(frame, each, optional):
        raise MappingError(f"each: the table must have {each}; it has {', '.join(frame.columns)}. Correct it")
    value = pl.lit(None, dtype=pl.Null) if value is None else value
    lists, wrong = _lists(frame.select(value.alias(each)).to_series() if frame.height else pl.Series(each, [], pl.Null))
    rows = frame.with_columns(lists.alias(each), wrong.alias(_WRONG)).with_row_index(_RECORD)
    position = pl.lit(None, dtype=pl.Int64)
    if lists.dtype != pl.Null:
        rows = rows.explode(each, empty_as_null=True, keep_nulls=True)
        position = pl.when(pl.col(each).is_not_null()).then(pl.int_range(pl.len()).over(_RECORD))
    rows = rows.with_columns(position.alias(POSITION))
    return rows.drop(_RECORD, _WRONG), [("field_has_other_type", rows[_WRONG])]


def _addresses(schema: dict[str, Any], start: str = "") -> Iterable[str]:
    for name, kind in schema.items():
        yield f"{start}{name}"
        inner = kind.inner if isinstance(kind, pl.List) else kind
        if isinstance(inner, pl.Struct):
            yield from _addresses(inner.to_schema(), f"{start}{name}.")


def passes(frame: pl.DataFrame, test: Test) -> pl.Series:
    """Return a mask of the rows that pass a test of a mapping."""
    tested, column = held(frame, test.column)
    value = text(tested, column)
    if test.equals is not None:
        met = value == test.equals
    elif test.matches is not None:
        met = value.str.contains(test.matches)
    elif test.empty is not None:
        met = value.is_null() if test.empty else value.is_not_null()
    else:
        amount = number(tested, column, pl.Float64())
        met = amount <= test.at_most if test.at_most is not None else amount > test.above
    return tested.select(met.fill_null(value=False)).to_series()


def flat_rows(frame: pl.DataFrame, spec: EventTable) -> Rows:
    """Return the rows of an events table, with one column per address that its entry reads.

    Rows that fail a test of `only` are dropped.

    Raises:
        MappingError: the value at an address has another type than the mapping describes.
    """
    own, faults = {*frame.columns}, Faults()
    addresses = set(_addresses(frame.schema)) - {MALFORMED}
    if spec.each is not None:
        frame, faults = _unfold(frame, spec.each, spec.optional)
        own |= {spec.each}
    read = [one for source in sources_of(spec) for one in columns_of(source)]
    read += [name for name in spec.identified_by if name not in spec.columns and name != NTH]
    new: dict[str, pl.Expr] = {}
    absent = set()
    for address in dict.fromkeys(one for one in read if one not in frame.columns):
        value = _value(frame, address)
        if value is None and not _may_be_absent(frame, address, spec.optional):
            continue  # the reader reports all missing columns at once
        if value is None and address not in spec.optional:
            absent.add(address)
        new[address] = pl.lit(None, dtype=pl.String) if value is None else value
    frame = frame.with_columns(value.alias(name) for name, value in new.items())
    if spec.only:
        kept = pl.Series([True]).new_from_index(0, frame.height)
        for test in spec.only:
            kept &= passes(frame, test)
        if MALFORMED in frame.columns:
            kept |= frame[MALFORMED].is_not_null()  # it has no values to test
        frame, faults = frame.filter(kept), [(reason, which.filter(kept)) for reason, which in faults]
    derived = frozenset({*frame.columns} - own)
    return Rows(frame, derived, tuple(faults), frozenset(absent), frozenset(addresses - {*read}))


def _with_time(frame: pl.DataFrame, elapsed: Elapsed) -> pl.DataFrame:
    """Add the time of each row: the start plus the cumulative days between the person's rows."""
    start = datetime.combine(elapsed.start, time(), UTC)
    ordered = frame.with_columns(
        text(frame, elapsed.by).alias("_by"),
        number(frame, elapsed.order, pl.Float64()).alias("_order"),
        number(frame, elapsed.days, pl.Float64()).fill_null(0.0).alias("_days"),
        number(frame, elapsed.hour, pl.Float64()).fill_null(0.0).alias("_hour"),
    ).sort("_by", "_order", maintain_order=True)
    hours = pl.col("_days").cum_sum().over("_by") * 24 + pl.col("_hour")
    moment = pl.lit(start, dtype=UTC_TIME) + pl.duration(microseconds=(hours * 3_600_000_000).cast(pl.Int64))
    return ordered.with_columns(moment.cast(UTC_TIME).alias(elapsed.into)).drop("_by", "_order", "_days", "_hour")


Seconds = tuple[tuple[Join, pl.DataFrame], ...]  # a table's joins, each with its second table


def second_tables(spec: EventTable | SideTable, files: list[Path], mapping: Mapping) -> Seconds:
    """Read the second tables of a table's joins into memory, with one row per `_key`.

    Raises:
        MappingError: a second table lacks the key, or a column that its times are derived from.
        SourceError: a second table is missing, or has several rows per key.
    """
    found = []
    for join in spec.joins:
        parts = [scalar_columns(read_table(file, join.csv)) for file in files_of(files, join.table, mapping)]
        if not parts:
            continue
        more = pl.concat(parts, how="diagonal_relaxed").unique(maintain_order=True)
        needed = [join.key]
        if join.elapsed is not None:
            needed += [join.elapsed.by, join.elapsed.order, join.elapsed.days, join.elapsed.hour]
        require_columns(more.columns, needed, join.table, mapping.name)
        more = more if join.elapsed is None else _with_time(more, join.elapsed)
        keyed = more.with_columns(id_text(more, join.key).alias("_key")).drop(join.key).drop_nulls("_key")
        again = keyed.filter(pl.col("_key").is_duplicated())["_key"]
        if not again.is_empty():
            raise SourceError(
                f"mapping {mapping.name}: {join.table}.{join.key}: a joined table must have one row per key; "
                f"received several for {again[0]!r}. Keep one"
            )
        found.append((join, keyed))
    return tuple(found)


def joined(frame: pl.DataFrame, seconds: Seconds, table: str, mapping: str) -> pl.DataFrame:
    """Join a table, or a piece of it, with its `second_tables`; keys are compared as text.

    Raises:
        MappingError: the table lacks a key.
    """
    frame = scalar_columns(frame) if seconds else frame
    for join, second in seconds:
        require_columns(frame.columns, [join.key], table, mapping)
        left = frame.with_columns(id_text(frame, join.key).alias("_key"))
        frame = left.join(second, on="_key", how="left", maintain_order="left", suffix=f"_{join.table}").drop("_key")
    return frame


class Filler:
    """Forward-fills blanks from the previous row with the same key, across the pieces of a file."""

    def __init__(self, spec: FillDown, table: str, mapping: str) -> None:
        self._spec, self._table, self._mapping = spec, table, mapping
        self._last: pl.DataFrame | None = None

    def fill(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Fill the next piece of the file.

        Raises:
            MappingError: the table lacks the key or a column that is to be filled.
        """
        columns = list(self._spec.columns)
        require_columns(frame.columns, [self._spec.by, *columns], self._table, self._mapping)
        keyed = frame.with_columns(id_text(frame, self._spec.by).alias("_key"))
        blanks = [pl.when(pl.col(c).cast(pl.String).str.strip_chars() != "").then(pl.col(c)).alias(c) for c in columns]
        values = keyed.select("_key", *blanks)
        if self._last is not None:
            values = pl.concat([self._last, values])
        filled = values.select("_key", pl.col(columns).forward_fill().over("_key"))
        self._last = filled.filter(pl.col("_key").is_not_null()).unique("_key", keep="last", maintain_order=True)
        filled = filled.tail(frame.height)
        kept = pl.lit(keyed["_key"].is_not_null())  # rows without a key are not filled
        return frame.with_columns(pl.when(kept).then(pl.lit(filled[c])).otherwise(pl.col(c)).alias(c) for c in columns)
