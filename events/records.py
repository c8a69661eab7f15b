"""Nested records to the flat rows that a mapping reads.

An address names a value of a record: a column (`user_id`), a field inside one (`ecommerce.transaction_id`), or the
value of a key in a list of pairs, as Google Analytics writes its parameters (`event_params[page_location]`). Several
addresses together name the first of them that holds anything. A record need not have every field.
"""

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from events.mapping import EventTable, Source, name_of
from events.plain import Odd
from events.values import columns_of
from shoplens.errors import MappingError

POSITION = "_position"
_KEYED = re.compile(r"(?P<list>.+)\[(?P<key>[^\[\]]+)\]")


@dataclass(frozen=True)
class Rows:
    """The rows of a table of events, or of a piece of it.

    Attributes:
        frame: The source's columns, and one column an address that the mapping reads, under `name_of`.
        derived: Columns that the source does not have itself; ids and attributes are made of the others.
        odd: What the values of the whole table decide; None where these rows are the whole.
        short: Which rows have fewer columns than their header; None where none has.
    """

    frame: pl.DataFrame
    derived: frozenset[str]
    odd: Odd | None = None
    short: pl.Series | None = None


def _field(frame: pl.DataFrame, address: str) -> pl.Expr | None:
    """Return the value at an address, None where no record has it; the longest column that starts it holds it."""
    parts = address.split(".")
    for size in range(len(parts), 0, -1):
        column = ".".join(parts[:size])
        if column in frame.columns:
            return _inside(pl.col(column), frame.schema[column], parts[size:])
    return None


def _inside(value: pl.Expr, kind: Any, fields: list[str]) -> pl.Expr | None:
    for name in fields:
        inner = next((f for f in kind.fields if f.name == name), None) if isinstance(kind, pl.Struct) else None
        if inner is None:
            return None
        value, kind = value.struct.field(name), inner.dtype
    return value


def _keyed(frame: pl.DataFrame, address: str, column: str, key: str) -> pl.Expr | None:
    """Return the value of `key` in a list of {key, value}; of a value with a field a type, the one that is set."""
    pairs = _field(frame, column)
    if pairs is None:
        return None
    kind = frame.select(pairs).schema.dtypes()[0]
    inner = kind.inner if isinstance(kind, pl.List) else None
    names = {f.name: f.dtype for f in inner.fields} if isinstance(inner, pl.Struct) else {}
    if not {"key", "value"} <= set(names):
        if kind in (pl.Null, pl.List(pl.Null)):
            return None
        raise MappingError(f"address {address}: {column} must be a list of records with key and value; it is {kind}")
    element = pl.element()
    found = pairs.list.eval(element.filter(element.struct.field("key") == key)).list.first().struct.field("value")
    typed = names["value"]
    if isinstance(typed, pl.Struct):
        return pl.coalesce(found.struct.field(f.name).cast(pl.String) for f in typed.fields if not f.dtype.is_nested())
    return found.cast(pl.String)


def _value(frame: pl.DataFrame, address: str, optional: tuple[str, ...]) -> pl.Expr | None:
    """Return the value at an address; None where the table has not even the column that it starts with."""
    keyed = None if address in frame.columns else _KEYED.fullmatch(address)
    found = _keyed(frame, address, keyed["list"], keyed["key"]) if keyed else _field(frame, address)
    if found is not None:
        return found
    parts = re.split(r"[.\[]", address)
    starts = {".".join(parts[: n + 1]) for n in range(len(parts))}
    return pl.lit(None, dtype=pl.String) if starts & {*frame.columns, *optional} else None


def _first(frame: pl.DataFrame, values: list[pl.Expr]) -> pl.Expr:
    """Return the first value that holds anything, as text: their types may differ."""
    kinds = [frame.select(value).schema.dtypes()[0] for value in values]
    texts = [value.cast(pl.String) for value in values]
    return pl.coalesce(
        pl.when(text.str.strip_chars() != "").then(text) if kind == pl.String else text
        for text, kind in zip(texts, kinds, strict=True)
    )


def _unfold(frame: pl.DataFrame, each: str, optional: tuple[str, ...]) -> pl.DataFrame:
    """Return one row an element of the list at `each`, and one for a record whose list is empty or absent."""
    value = _value(frame, each, optional)
    if value is None:
        raise MappingError(f"each: the table must have {each}; it has {', '.join(frame.columns)}. Correct the mapping")
    listed = frame.with_row_index("_record").with_columns(value.alias(each))
    kind = listed.schema[each]
    if not isinstance(kind, pl.List):
        if kind in (pl.String, pl.Null) and listed[each].null_count() == listed.height:
            return listed.drop("_record").with_columns(pl.lit(None, dtype=pl.Int64).alias(POSITION))
        raise MappingError(f"each: {each} must be a list of records; it is {kind}")
    rows = listed.explode(each, empty_as_null=True, keep_nulls=True)
    nth = pl.int_range(pl.len()).over("_record")
    return rows.with_columns(pl.when(pl.col(each).is_not_null()).then(nth).alias(POSITION)).drop("_record")


def flat_rows(frame: pl.DataFrame, spec: EventTable) -> Rows:
    """Return the rows that a table of events stands for; a table of plain columns is returned as it is.

    Raises:
        MappingError: a column is missing, or an address leads to something else than it says.
    """
    own = set(frame.columns)
    if spec.each is not None:
        frame = _unfold(frame, spec.each, spec.optional)
        own |= {spec.each}
    content = [column for category in spec.items.values() for column in columns_of(category)]
    read: list[Source] = [*spec.columns.values(), *(rule.column for rule in spec.reject), *content, *spec.identified_by]
    read += [] if spec.time_plus is None else [spec.time_plus.column]
    new: dict[str, pl.Expr] = {}
    for source in (one for one in read if name_of(one) not in frame.columns):
        addresses = (source,) if isinstance(source, str) else source
        found = [value for one in addresses if (value := _value(frame, one, spec.optional)) is not None]
        if found:  # what is missing is said by whoever reads it, all of it at once
            new[name_of(source)] = found[0] if isinstance(source, str) else _first(frame, found)
    frame = frame.with_columns(value.alias(name) for name, value in new.items())
    return Rows(frame, frozenset(set(frame.columns) - own))
