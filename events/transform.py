"""One source table through its mapping: rows to the contract, and the reasons of rows that cannot go there."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import polars as pl

from events.contract import ATTRIBUTES, CATEGORY_SEPARATOR, EVENT_SCHEMA, QUARANTINE_SCHEMA, UTC_TIME
from events.mapping import Category, EventTable, Mapping, Path_, Reject, SideTable
from shoplens.errors import MappingError

_EPOCHS = {"epoch_s": "s", "epoch_ms": "ms", "epoch_us": "us"}
_UNIT = "\x1f"  # ASCII unit separator: in no text that people type


@dataclass(frozen=True)
class Transformed:
    """A table of events after its mapping.

    Attributes:
        events: accepted rows, to the contract, plus `_row`; exact duplicates are still among them.
        quarantined: QUARANTINE_SCHEMA.
        items: item_id, event_time and the item content that rode on the events.
    """

    events: pl.DataFrame
    quarantined: pl.DataFrame
    items: pl.DataFrame


def require_columns(frame: pl.DataFrame, needed: list[str], table: str, mapping: str) -> None:
    """Raise a MappingError that names the columns that the mapping reads and the table lacks."""
    missing = [name for name in dict.fromkeys(needed) if name not in frame.columns]
    if missing:
        raise MappingError(
            f"mapping {mapping}: table {table} must have column(s) {', '.join(missing)}; it has "
            f"{', '.join(frame.columns)}. Correct the mapping or give the right file"
        )


def _columns_of(category: Category) -> list[str]:
    if isinstance(category, Path_):
        return [category.column]
    return [category] if isinstance(category, str) else list(category)


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as text: whole floats (13085.0) as whole numbers, empty text as missing."""
    kind = frame.schema[column]
    value = pl.col(column)
    if kind.is_float():
        whole = value.is_not_null() & (value == value.floor()) & (value.abs() < 2**53)
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    result = value.cast(pl.String).str.strip_chars()
    return pl.when(result != "").then(result)


def _path(frame: pl.DataFrame, category: Category) -> pl.Expr:
    parts = [text(frame, name) for name in _columns_of(category)]
    if isinstance(category, Path_):
        return parts[0].str.replace_all(category.split, CATEGORY_SEPARATOR, literal=True)
    joined = pl.concat_str(parts, separator=CATEGORY_SEPARATOR, ignore_nulls=True)
    return pl.when(joined != "").then(joined)


def moment(frame: pl.DataFrame, column: str, time_zone: str, time_format: str | None) -> pl.Expr:
    """Return a column as UTC time; null where it cannot be read as one."""
    kind = frame.schema[column]
    value = pl.col(column)
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return value.dt.convert_time_zone("UTC").cast(UTC_TIME)
    if time_format in _EPOCHS:
        number = value.cast(pl.Float64, strict=False)
        scale = {"s": 1_000_000, "ms": 1_000, "us": 1}[_EPOCHS[time_format]]
        return (number * scale).cast(pl.Int64, strict=False).cast(UTC_TIME)
    if kind == pl.String:
        value = value.str.to_datetime(time_format, strict=False, time_unit="us", exact=True)
    return (
        value.cast(pl.Datetime("us"))
        .dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
        .cast(UTC_TIME)
    )


def _typed(frame: pl.DataFrame, name: str, column: str, spec: EventTable, mapping: Mapping) -> pl.Expr:
    kind = EVENT_SCHEMA[name]
    if kind == UTC_TIME:
        return moment(frame, column, mapping.time_zone, spec.time_format)
    if kind == pl.String:
        return text(frame, column)
    return text(frame, column).cast(kind, strict=False)


def _rejected(frame: pl.DataFrame, rule: Reject) -> pl.Expr:
    value = text(frame, rule.column)
    if rule.equals is not None:
        return value == rule.equals
    if rule.matches is not None:
        return value.str.contains(rule.matches)
    return value.cast(pl.Float64, strict=False) <= rule.at_most


def _reasons(frame: pl.DataFrame, mapped: dict[str, pl.Expr], spec: EventTable) -> pl.Expr:
    """Return, for every row, the list of reasons for which it cannot be an event; empty for a good row."""
    tests: list[tuple[str, pl.Expr]] = [(rule.reason, _rejected(frame, rule)) for rule in spec.reject]
    for name, column in spec.columns.items():
        kind = EVENT_SCHEMA[name]
        if kind == UTC_TIME or kind.is_numeric():
            given = text(frame, column).is_not_null()
            what = "not_a_time" if kind == UTC_TIME else "not_a_number"
            tests.append((f"{name}_{what}", given & mapped[name].is_null()))
    if "event_time" in spec.columns:
        tests.append(("event_time_missing", text(frame, spec.columns["event_time"]).is_null()))
    if "event_name" in spec.columns:
        source = text(frame, spec.columns["event_name"])
        tests.append(("event_name_missing", source.is_null()))
        tests.append(("event_name_unknown", source.is_not_null() & mapped["event_name"].is_null()))
    who = [mapped[name].is_null() for name in ("user_id", "anonymous_id") if name in mapped]
    tests.append(("who_missing", pl.all_horizontal(who)))
    marks = [pl.when(test.fill_null(value=False)).then(pl.lit(reason)) for reason, test in tests]
    return pl.concat_list(marks).list.drop_nulls()


def _attributes(frame: pl.DataFrame, used: set[str]) -> pl.Expr:
    rest = [name for name in frame.columns if name not in used]
    if not rest:
        return pl.lit([], dtype=ATTRIBUTES)
    pairs = [
        pl.when(text(frame, name).is_not_null()).then(
            pl.struct(pl.lit(name).alias("key"), text(frame, name).alias("value"))
        )
        for name in rest
    ]
    return pl.concat_list(pairs).list.drop_nulls()


def content_ids(frame: pl.DataFrame, table: str) -> pl.Series:
    """Return an id for every row, derived from its content and table: re-reading a file gives the same ids.

    A 96-bit BLAKE2b: a billion rows collide with a probability of about 1e-11.
    """
    lines = frame.select(
        pl.concat_str([text(frame, name).fill_null("\x00") for name in frame.columns], separator=_UNIT)
    ).to_series()
    start = blake2b(table.encode(), digest_size=12)

    def one(line: str) -> str:
        state = start.copy()
        state.update(line.encode())
        return state.hexdigest()

    return pl.Series("event_id", [one(line) for line in lines], dtype=pl.String)


def _expressions(frame: pl.DataFrame, spec: EventTable, mapping: Mapping) -> dict[str, pl.Expr]:
    mapped = {name: _typed(frame, name, column, spec, mapping) for name, column in spec.columns.items()}
    for name, constant in spec.constants.items():
        mapped[name] = pl.lit(constant).cast(EVENT_SCHEMA[name])
    if "event_name" in spec.columns:
        names = spec.event_names
        mapped["event_name"] = mapped["event_name"].replace_strict(names, default=None, return_dtype=pl.String)
    return mapped


def _derived(spec: EventTable, mapping: Mapping) -> list[list[pl.Expr]]:
    """Return the steps, in order, that fill what follows from other columns."""
    first: list[pl.Expr] = []
    if spec.negative_quantity == "refund":
        back = pl.col("quantity") < 0
        first.append(pl.when(back).then(pl.lit("refund")).otherwise(pl.col("event_name")).alias("event_name"))
        first.append(pl.col("quantity").abs())
    if spec.price == "amount / quantity":
        first.append(pl.when(pl.col("quantity") != 0).then(pl.col("amount") / pl.col("quantity")).alias("price"))
    second: list[pl.Expr] = []
    if spec.amount == "price * quantity":
        second.append((pl.col("price") * pl.col("quantity")).alias("amount"))
    if "ingested_at" not in spec.columns:
        delay = pl.duration(microseconds=int(mapping.ingest_delay_seconds * 1_000_000))
        second.append((pl.col("event_time") + delay).cast(UTC_TIME).alias("ingested_at"))
    return [first, second]


def _item_content(frame: pl.DataFrame, events: pl.DataFrame, spec: EventTable) -> pl.DataFrame:
    content = frame.select(_path(frame, category).alias(name) for name, category in spec.items.items())
    keys = events.select("item_id", "event_time", "event_id")
    return pl.concat([keys, content], how="horizontal").filter(pl.col("item_id").is_not_null())


def transform(frame: pl.DataFrame, spec: EventTable, mapping: Mapping, table: str) -> Transformed:
    """Bring a source table to the contract; rows that cannot go there are set aside with their reasons.

    Raises:
        MappingError: the table lacks columns that the mapping reads.
    """
    content = [column for category in spec.items.values() for column in _columns_of(category)]
    needed = [*spec.columns.values(), *(rule.column for rule in spec.reject), *content]
    require_columns(frame, needed, table, mapping.name)
    mapped = _expressions(frame, spec, mapping)
    used = {*spec.columns.values(), *spec.ignore, *content}
    events = frame.select(
        _reasons(frame, mapped, spec).alias("_reasons"),
        *(expression.alias(name) for name, expression in mapped.items()),
        _attributes(frame, used).alias("attributes"),
    ).with_row_index("_row")
    if "event_id" not in mapped:
        events = events.with_columns(content_ids(frame.drop(spec.ignore, strict=False), table))
    absent = [pl.lit(None, dtype=kind).alias(n) for n, kind in EVENT_SCHEMA.items() if n not in events.columns]
    events = events.with_columns(absent)
    for step in _derived(spec, mapping):
        events = events.with_columns(step)
    bad = events["_reasons"].list.len() > 0
    return Transformed(
        events.filter(~bad).select("_row", *EVENT_SCHEMA),
        quarantine(frame.filter(bad), events.filter(bad), table),
        _item_content(frame, events, spec).filter(~bad) if spec.items else pl.DataFrame(),
    )


def quarantine(raw: pl.DataFrame, rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA rows: the raw rows as JSON with row number (from 0) and reasons."""
    if raw.is_empty():
        return pl.DataFrame(schema=QUARANTINE_SCHEMA)
    return pl.DataFrame(
        {
            "table": pl.repeat(table, raw.height, eager=True),
            "row": rows["_row"].cast(pl.Int64),
            "reasons": rows["_reasons"],
            "raw": raw.select(pl.struct(pl.all()).struct.json_encode()).to_series(),
        },
        schema=QUARANTINE_SCHEMA,
    )


def side_table(frame: pl.DataFrame, spec: SideTable, schema: dict[str, Any], mapping: Mapping) -> pl.DataFrame:
    """Bring an items, users or campaigns table to its schema; its own columns follow as text.

    Raises:
        MappingError: the table lacks columns that the mapping reads.
    """
    needed = [*(c for category in spec.columns.values() for c in _columns_of(category)), *spec.own]
    require_columns(frame, needed, spec.table, mapping.name)
    columns = []
    for name, kind in schema.items():
        category = spec.columns.get(name)
        if category is None:
            columns.append(pl.lit(None, dtype=kind).alias(name))
        elif kind == UTC_TIME and isinstance(category, str):
            columns.append(moment(frame, category, mapping.time_zone, None).alias(name))
        else:
            columns.append(_path(frame, category).cast(kind, strict=False).alias(name))
    return frame.select(*columns, *(text(frame, name).alias(name) for name in spec.own))
