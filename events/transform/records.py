"""Nested records to the flat rows that a mapping reads.

An address names a value of a record: a column (`user_id`), a field inside one (`ecommerce.transaction_id`), or the
value of a key in a list of pairs, as Google Analytics writes its parameters (`event_params[page_location]`). A record
need not have every field. An address that no record has is an empty column, and is reported.
"""

import difflib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from events.mapping import NTH, Category, DateAndTime, EventTable, Test, columns_of
from events.transform.columns import ColumnForms
from events.transform.numbers import held, number, text
from shoplens.errors import MappingError

_ALIKE = 0.55  # of the letters: orderNumber for orderId
POSITION = "_position"  # of an element in the list that `each` names
OTHER_TYPE = "field_has_other_type"
_RECORD, _WRONG = "_record", "_wrong"
_KEYED = re.compile(r"(?P<list>.+)\[(?P<key>[^\[\]]+)\]")


@dataclass(frozen=True)
class Rows:
    """The rows of a table of events, or of a piece of it.

    Attributes:
        frame: The source's columns, and one column per address that the mapping reads.
        derived: Columns that the source does not have itself; attributes and whole-row IDs are made of the others.
        forms: How columns of other types are written; None where these rows are the whole table.
        malformed: Which rows are lines that cannot be read; None where none is.
        faults: Reasons why rows cannot be read, and which rows.
        absent, unread: Addresses that no record of these has, and those of the records that no column reads.
    """

    frame: pl.DataFrame
    derived: frozenset[str]
    forms: ColumnForms | None = None
    malformed: pl.Series | None = None
    faults: tuple[tuple[str, pl.Series], ...] = ()
    absent: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()


def sources_of(spec: EventTable) -> list[Category | DateAndTime]:
    """Return everything that a table's entry reads from the source, except what derived IDs alone are made of."""
    tests = [test.column for test in (*spec.only, *spec.reject, *spec.discounts)]
    added = [] if spec.time_plus is None else [spec.time_plus.column]
    total = [] if spec.order_amount is None else [spec.order_amount]
    return [*spec.columns.values(), *tests, *spec.items.values(), *added, *total]


def _field(frame: pl.DataFrame, address: str) -> pl.Expr | None:
    """Return the value at an address, None where no record has it; the longest column that starts it holds it."""
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


def _keyed(frame: pl.DataFrame, address: str, column: str, key: str) -> pl.Expr | None:
    """Return the value of `key` in a list of {key, value}; of a value with one field per type, the one that is set."""
    pairs = _field(frame, column)
    if pairs is None:
        return None
    kind = frame.select(pairs).schema.dtypes()[0]
    inner = kind.inner if isinstance(kind, pl.List) else None
    names = inner.to_schema() if isinstance(inner, pl.Struct) else {}
    if not {"key", "value"} <= set(names):
        if kind in (pl.Null, pl.List(pl.Null)):
            return None
        raise MappingError(f"address {address}: {column} must be a list of records with key and value; it is {kind}")
    element = pl.element()
    found = pairs.list.eval(element.filter(element.struct.field("key") == key)).list.first().struct.field("value")
    typed = names["value"]
    if isinstance(typed, pl.Struct):
        values = [found.struct.field(f.name).cast(pl.String) for f in typed.fields if not f.dtype.is_nested()]
        found = pl.coalesce(values) if values else pl.lit(None, dtype=pl.String)
    found = found.cast(pl.String)
    return None if frame.select(found.null_count()).item() == frame.height else found


def _value(frame: pl.DataFrame, address: str) -> pl.Expr | None:
    """Return the value at an address; None where no record has it."""
    keyed = None if address in frame.columns else _KEYED.fullmatch(address)
    return _keyed(frame, address, keyed["list"], keyed["key"]) if keyed else _field(frame, address)


def _may_be_absent(frame: pl.DataFrame, address: str, optional: tuple[str, ...]) -> bool:
    """Return whether an address may lead to nothing: records need not have every field, a table its columns."""
    parts = re.split(r"[.\[]", address)
    starts = {".".join(parts[: n + 1]) for n in range(len(parts))}
    inside = len(parts) > 1 and bool(starts & set(frame.columns))
    return inside or bool(starts & set(optional)) or any(kind.is_nested() for kind in frame.dtypes)


def _lists(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return lists of records, and which values hold something else; lists that are JSON in text are read."""
    if isinstance(values.dtype, pl.List) or values.dtype == pl.Null:
        return values, pl.repeat(value=False, n=len(values), eager=True)
    found: list[Any] = [None] * len(values)
    for n, value in enumerate(values.to_list() if values.dtype == pl.String else ()):
        try:
            found[n] = json.loads(value) if value else None
        except ValueError:
            continue  # text that is not JSON: reported as another type
    lists = [value if isinstance(value, list) else None for value in found]
    wrong = pl.Series([one is None for one in lists]) & values.is_not_null() & (values.cast(pl.String) != "")
    lines = "\n".join(json.dumps({"x": value}) for value in lists)
    return pl.read_ndjson(io.StringIO(lines), infer_schema_length=None)["x"], wrong


def _unfold(
    frame: pl.DataFrame, each: str, optional: tuple[str, ...]
) -> tuple[pl.DataFrame, tuple[tuple[str, pl.Series], ...]]:
    """Return one row per element of the list at `each`, and one for a record without one; and what is no list."""
    value = _value(frame, each)
    if value is None:
        if not _may_be_absent(frame, each, optional):
            raise MappingError(f"each: the table must have {each}; it has {', '.join(frame.columns)}. Correct it")
        value = pl.lit(None, dtype=pl.Null)
    lists, wrong = _lists(frame.select(value.alias(each)).to_series() if frame.height else pl.Series(each, [], pl.Null))
    listed = frame.with_columns(lists.alias(each), wrong.alias(_WRONG)).with_row_index(_RECORD)
    if listed.schema[each] == pl.Null:
        rows = listed.with_columns(pl.lit(None, dtype=pl.Int64).alias(POSITION))
    else:
        rows = listed.explode(each, empty_as_null=True, keep_nulls=True)
        nth = pl.int_range(pl.len()).over(_RECORD)
        rows = rows.with_columns(pl.when(pl.col(each).is_not_null()).then(nth).alias(POSITION))
    faults = ((OTHER_TYPE, rows[_WRONG]),) if wrong.any() else ()
    return rows.drop(_RECORD, _WRONG), faults


def _schema_addresses(schema: Mapping[str, Any], start: str = "") -> Iterable[str]:
    for name, kind in schema.items():
        yield f"{start}{name}"
        inner = kind.inner if isinstance(kind, pl.List) else kind
        if isinstance(inner, pl.Struct):
            yield from _schema_addresses(inner.to_schema(), f"{start}{name}.")


def nearest_address(address: str, unread: Iterable[str]) -> str | None:
    """Return the address that the records have, and no column reads, whose last part is spelled most like another's."""

    def last_part(one: str) -> str:
        return re.sub("[^a-z0-9]", "", re.split(r"[.\[]", one)[-1].lower())

    near = [one for one in sorted(unread) if not address.startswith(f"{one}.")]
    found = {one: difflib.SequenceMatcher(None, last_part(address), last_part(one)).ratio() for one in near}
    # Of equally good ones, the nearest in the record.
    best = max(found, key=lambda one: (found[one], difflib.SequenceMatcher(None, address, one).ratio()), default=None)
    return best if best is not None and found[best] >= _ALIKE else None


def flat_rows(frame: pl.DataFrame, spec: EventTable) -> Rows:
    """Return the rows that a table of events stands for, with one column per address that its entry reads.

    Raises:
        MappingError: an address leads to something else than the mapping describes.
    """
    own = set(frame.columns)
    faults: tuple[tuple[str, pl.Series], ...] = ()
    addresses = set(_schema_addresses(frame.schema))
    if spec.each is not None:
        frame, faults = _unfold(frame, spec.each, spec.optional)
        own |= {spec.each}
    read = [one for source in sources_of(spec) for one in columns_of(source)]
    identified = [name for name in spec.identified_by if name not in spec.columns and name != NTH]
    new: dict[str, pl.Expr] = {}
    absent = set()
    for address in dict.fromkeys(one for one in [*read, *identified] if one not in frame.columns):
        value = _value(frame, address)
        if value is None and not _may_be_absent(frame, address, spec.optional):
            continue  # a missing column: whoever reads it reports it, all of them at once
        if value is None and address not in spec.optional:
            absent.add(address)
        new[address] = pl.lit(None, dtype=pl.String) if value is None else value
    frame = frame.with_columns(value.alias(name) for name, value in new.items())
    derived, unread = frozenset(set(frame.columns) - own), frozenset(addresses - {*read, *identified})
    return Rows(frame, derived, faults=faults, absent=frozenset(absent), unread=unread)


def passes(frame: pl.DataFrame, test: Test) -> pl.Expr:
    """Return where a test of a mapping holds."""
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
    return pl.lit(tested.select(met.fill_null(value=False)).to_series())


def only_rows(rows: Rows, spec: EventTable) -> Rows:
    """Return the rows that an entry reads: those that pass all tests of its `only`."""
    if not spec.only:
        return rows
    kept = rows.frame.select(pl.all_horizontal(passes(rows.frame, test) for test in spec.only)).to_series()
    malformed = rows.malformed
    if malformed is not None:
        kept |= malformed  # it has no values to test
        malformed = malformed.filter(kept)
    faults = tuple((reason, which.filter(kept)) for reason, which in rows.faults)
    return replace(rows, frame=rows.frame.filter(kept), malformed=malformed, faults=faults)
