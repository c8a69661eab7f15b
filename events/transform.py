"""One source table of events through its mapping: rows to the contract, and reasons of rows that cannot go there."""

from dataclasses import dataclass

import polars as pl

from events.attributes import attributes
from events.contract import EVENT_SCHEMA, UTC_TIME
from events.ids import content_ids
from events.items import content_columns
from events.joins import require_columns
from events.mapping import EventTable, Mapping, Reject
from events.plain import plain, require_plain
from events.quarantine import judge, quarantine
from events.records import POSITION, Rows
from events.times import moment, require_times
from events.values import columns_of, given, number, text

ROW_TOO_SHORT = "row_too_short"
_MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


@dataclass(frozen=True)
class Transformed:
    """A table of events after its mapping.

    Attributes:
        events: accepted rows, to the contract, plus `_row` and the item content that rode on them (`events.items`);
            exact duplicates are still among them.
        quarantined: QUARANTINE_SCHEMA.
    """

    events: pl.DataFrame
    quarantined: pl.DataFrame


def _typed(frame: pl.DataFrame, name: str, column: str, spec: EventTable, mapping: Mapping) -> pl.Expr:
    kind = EVENT_SCHEMA[name]
    if kind == UTC_TIME:
        return moment(frame, column, mapping.time_zone, next(iter(spec.time_formats), None))
    return text(frame, column) if kind == pl.String else number(frame, column, kind)


def _rejected(frame: pl.DataFrame, rule: Reject) -> pl.Expr:
    value = text(frame, rule.column)
    if rule.equals is not None:
        return value == rule.equals
    if rule.matches is not None:
        return value.str.contains(rule.matches)
    return number(frame, rule.column, pl.Float64()) <= rule.at_most


def _tests(frame: pl.DataFrame, done: pl.DataFrame, spec: EventTable) -> list[tuple[str, pl.Expr]]:
    """Return the reasons why rows of `frame` cannot become the events in `done`, and what is true of such a row."""
    mapped = {name: pl.lit(done[name]) for name in done.columns}
    tests: list[tuple[str, pl.Expr]] = [(rule.reason, _rejected(frame, rule)) for rule in spec.reject]
    for name, column in spec.sources.items():
        kind = EVENT_SCHEMA[name]
        if kind == UTC_TIME or kind.is_numeric():
            what = "not_a_time" if kind == UTC_TIME else "not_a_number"
            tests.append((f"{name}_{what}", given(frame, column) & mapped[name].is_null()))
    tests.append(("event_time_missing", ~given(frame, spec.sources["event_time"])))
    if "event_id" in spec.columns:
        tests.append(("event_id_missing", text(frame, spec.sources["event_id"]).is_null()))
    if "event_name" in spec.columns:
        source = text(frame, spec.sources["event_name"])
        tests.append(("event_name_missing", source.is_null()))
        tests.append(("event_name_unknown", source.is_not_null() & mapped["event_name"].is_null()))
    who = [mapped[name].is_null() for name in ("user_id", "anonymous_id") if name in mapped]
    tests.append(("who_missing", pl.all_horizontal(who)))
    return tests


def _expressions(frame: pl.DataFrame, spec: EventTable, mapping: Mapping) -> dict[str, pl.Expr]:
    mapped = {name: _typed(frame, name, column, spec, mapping) for name, column in spec.sources.items()}
    if spec.time_plus is not None:
        later = number(frame, spec.time_plus.column, pl.Float64()) * _MICROSECONDS[spec.time_plus.unit]
        mapped["event_time"] = (mapped["event_time"] + pl.duration(microseconds=later.cast(pl.Int64))).cast(UTC_TIME)
    for name, constant in spec.constants.items():
        mapped[name] = pl.lit(constant).cast(EVENT_SCHEMA[name])
    if "event_name" in spec.columns:
        names = spec.event_names
        mapped["event_name"] = mapped["event_name"].replace_strict(names, default=None, return_dtype=pl.String)
    return mapped


def _finite(value: pl.Expr) -> pl.Expr:
    return pl.when(value.is_finite()).then(value)


def _derived(spec: EventTable, mapping: Mapping) -> list[list[pl.Expr]]:
    """Return the steps, in order, that fill what follows from other columns."""
    first: list[pl.Expr] = []
    if spec.negative_quantity == "refund":
        back = pl.col("quantity") < 0
        first.append(pl.when(back).then(pl.lit("refund")).otherwise(pl.col("event_name")).alias("event_name"))
        first.append(pl.col("quantity").abs())
    if spec.price == "amount / quantity":
        first.append(_finite(pl.col("amount") / pl.col("quantity")).alias("price"))
    second: list[pl.Expr] = []
    if spec.amount == "price * quantity":
        second.append(_finite(pl.col("price") * pl.col("quantity")).alias("amount"))
    seconds = mapping.ingest_delay_seconds if spec.ingest_delay_seconds is None else spec.ingest_delay_seconds
    delay = pl.duration(microseconds=int(seconds * 1_000_000))
    booked = (pl.col("event_time") + delay).cast(UTC_TIME)
    second.append(pl.coalesce("ingested_at", booked).alias("ingested_at"))
    return [first, second]


def _check(frame: pl.DataFrame, spec: EventTable, mapping: Mapping) -> None:
    content = [column for category in spec.items.values() for column in columns_of(category)]
    needed = [*spec.sources.values(), *(rule.column for rule in spec.reject), *content]
    needed += [] if spec.time_plus is None else [spec.time_plus.column]
    require_columns(frame.columns, needed, spec.table, mapping.name)
    where = f"mapping {mapping.name}, table {spec.table}"
    require_plain(frame, needed, where)
    times = [column for name, column in spec.sources.items() if EVENT_SCHEMA[name] == UTC_TIME]
    require_times(frame, times, next(iter(spec.time_formats), None), where)


def _without_missing(frame: pl.DataFrame, missing: tuple[str, ...]) -> pl.DataFrame:
    if not missing:
        return frame
    held = pl.selectors.string()
    return frame.with_columns(pl.when(~held.is_in(missing)).then(held))


def _ids(frame: pl.DataFrame, rows: Rows, spec: EventTable, salt: str) -> pl.Series:
    """Return derived ids: of what identifies a row, else of all that the source itself says in it."""
    if spec.identified_by:
        place = [POSITION] if POSITION in frame.columns else []
        return content_ids(frame.select(*dict.fromkeys(spec.identified_by), *place), salt)
    derived = [name for name in rows.derived if name != POSITION]
    return content_ids(frame.drop(*derived, *spec.ignore, strict=False), salt)


def transform(rows: Rows, spec: EventTable, mapping: Mapping, label: str, salt: str, start: int = 0) -> Transformed:
    """Bring a source table, or a piece of it, to the contract; rows that cannot go there are set aside with reasons.

    Args:
        rows: The rows of the table, see `events.records`.
        spec: The table's entry in the mapping.
        mapping: The mapping.
        label: What the file is called in the account and in quarantine.
        salt: What derived ids are salted with, see `events.ids`.
        start: The number of the first row.

    Raises:
        MappingError: the table lacks columns that the mapping reads, or a time's unit is not named.
        SourceError: a column that the mapping reads holds no plain values.
    """
    _check(rows.frame, spec, mapping)
    raw = plain(rows.frame, rows.odd)
    frame = _without_missing(raw, spec.missing if isinstance(spec.missing, tuple) else ())
    done = frame.select(expression.alias(name) for name, expression in _expressions(frame, spec, mapping).items())
    tests = _tests(frame, done, spec)
    if rows.short is not None:
        tests.insert(0, (ROW_TOO_SHORT, pl.lit(rows.short)))
    bad, reasons = judge(frame, tests)
    events = _with_the_rest(done, frame, rows, spec)
    if "event_id" not in events.columns:
        events = events.with_columns(_ids(raw, rows, spec, salt))
    numbered = events.with_row_index("_row", offset=start)
    aside = numbered.filter(bad).select("_row").with_columns(reasons.alias("_reasons"))
    good = numbered if aside.is_empty() else numbered.filter(~bad)
    for step in _derived(spec, mapping):
        good = good.with_columns(step)
    riding = [name for name in good.columns if name not in EVENT_SCHEMA and name != "_row"]
    return Transformed(good.select("_row", *EVENT_SCHEMA, *riding), quarantine(raw.filter(bad), aside, label))


def _with_the_rest(done: pl.DataFrame, frame: pl.DataFrame, rows: Rows, spec: EventTable) -> pl.DataFrame:
    """Return mapped columns with the content of items, the attributes, and the contract's other columns, empty."""
    content = {column for category in spec.items.values() for column in columns_of(category)}
    plus = [] if spec.time_plus is None else [spec.time_plus.column]
    used = {*spec.sources.values(), *spec.ignore, *content, *plus, *rows.derived}
    more = [frame.select(column).to_series() for column in content_columns(frame, spec)]
    more.append(attributes(frame, [name for name in frame.columns if name not in used]))
    events = done.with_columns(more)
    if "event_id" in events.columns and POSITION in frame.columns:  # elements of one record are events of their own
        nth = pl.lit(frame[POSITION].cast(pl.String))
        events = events.with_columns(pl.concat_str("event_id", nth, separator=":", ignore_nulls=True))
    absent = [n for n in EVENT_SCHEMA if n not in events.columns and n != "event_id"]
    return events.with_columns(pl.lit(None, dtype=EVENT_SCHEMA[name]).alias(name) for name in absent)
