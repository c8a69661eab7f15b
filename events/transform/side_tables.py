"""Transform side tables (items, users, campaigns, promotions, stock) to their schemas, accounting for every row.

Items that are in no table are known only from events, with the content that the events carry.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from events.account import Faults, TableAccount, count_reasons, faulty, quarantine
from events.contract import QUARANTINE_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from events.identity import Seen
from events.mapping import SIDE_KEYS, DateAndTime, Mapping, columns_of
from events.sources.files import MALFORMED, Labels, files_of
from events.sources.readers import pieces
from events.transform.columns import id_text, path, read_number, require_scalars, scalar_columns, text
from events.transform.records import joined, require_columns, second_tables
from events.transform.rows import CARRIED
from events.transform.times import faults_of, read_times, require_times

# One row per item, content column and value: the number of events with it, and the smallest of their keys.
CONTENT_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "name": pl.String(),
    "value": pl.String(),
    "rows": pl.Int64(),
    "event_time": UTC_TIME,
    "ingested_at": UTC_TIME,
    "event_id": pl.String(),
}
_VALUE = ["item_id", "name", "value"]
_FIRST = pl.col("event_time", "ingested_at", "event_id").min()
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)  # people registered and were born before the first event


@dataclass(frozen=True)
class Side:
    """A side table: its rows in the schema, the quarantined rows, and the accounts of its files."""

    rows: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]


def read_side(files: list[Path], name: str, mapping: Mapping, labels: Labels) -> Side:
    """Return the distinct rows of a mapping's side table `name`; empty if the mapping does not have it.

    Raises:
        MappingError: the table lacks columns that the mapping reads.
        SourceError: the table is required but missing, a file cannot be read, or a column does not hold text, numbers
            or times.
    """
    spec = mapping.sides.get(name)
    own = () if spec is None else spec.own
    rows = [pl.DataFrame(schema=SIDE_SCHEMAS[name] | dict.fromkeys(own, pl.String))]
    side = Side(rows[0], pl.DataFrame(schema=QUARANTINE_SCHEMA), {})
    found = [] if spec is None else files_of(files, spec.table, mapping)
    if spec is None or not found:
        return side
    seconds = second_tables(spec, files, mapping)
    needed = [*(column for source in spec.columns.values() for column in columns_of(source)), *own]
    heads = [joined(next(pieces(file, spec.csv)).frame.head(0), seconds, spec.table, mapping.name) for file in found]
    # Files may lack columns that other files have.
    present = dict.fromkeys(c for head in heads for c in head.columns)
    require_columns(list(present), needed, spec.table, mapping.name)
    seen, quarantined = Seen(), [side.quarantined]
    for file in found:
        label, account, reasons = labels.take(file, name), Counter[str](), Counter[str]()
        for piece in pieces(file, spec.csv):
            where = f"mapping {mapping.name}, table {spec.table}"
            require_scalars(piece.frame, [c for c in needed if c in piece.frame.columns], where)
            raw = joined(scalar_columns(piece.frame), seconds, spec.table, mapping.name)
            absent = [pl.lit(None, dtype=pl.String).alias(c) for c in dict.fromkeys(needed) if c not in raw.columns]
            raw = raw.with_columns(absent)
            mapped, faults = _map(raw, name, mapping)
            bad, why = faulty(raw.height, faults)
            good = mapped.filter(~bad)
            fresh = good.filter(seen.before(good.hash_rows()) == 0)
            rejected = quarantine(raw.filter(bad), bad.arg_true().cast(pl.Int64) + account["rows"], why, label)
            account.update(rows=raw.height, accepted=fresh.height, repeated=good.height - fresh.height)
            reasons.update(count_reasons(rejected))
            rows.append(fresh)
            quarantined.append(rejected)
        side.accounts[label] = TableAccount(account["rows"], account["accepted"], dict(reasons), account["repeated"])
    return Side(pl.concat(rows), pl.concat(quarantined), side.accounts)


def _map(frame: pl.DataFrame, table: str, mapping: Mapping) -> tuple[pl.DataFrame, Faults]:
    """Return the columns of a side table, and the faults of its rows."""
    spec, schema = mapping.sides[table], SIDE_SCHEMAS[table]
    where = f"mapping {mapping.name}, table {spec.table}"
    done: list[pl.Series] = []
    faults: Faults = [("row_malformed", frame[MALFORMED].is_not_null())] if MALFORMED in frame.columns else []
    for name, kind in schema.items():
        source = spec.columns.get(name)
        if source is None:
            values = pl.Series([None], dtype=kind).new_from_index(0, frame.height)
        elif isinstance(source, DateAndTime) or kind == UTC_TIME:
            if not isinstance(source, DateAndTime):
                require_times(frame, columns_of(source), spec.time_formats, where)
            times = read_times(frame, source, mapping.time_zone, spec.time_formats, _EARLIEST)
            values = times["time"]
            faults += faults_of(name, times["fault"])
        elif kind == pl.String:
            value = id_text(frame, source) if isinstance(source, str) and name.endswith("_id") else path(frame, source)
            values = frame.select(value).to_series()
        else:
            values, wrong = read_number(frame, source, kind, spec.csv)
            faults.append((f"{name}_not_a_number", wrong))
        done.append(values.alias(name))
    for key in SIDE_KEYS[table]:
        empty = pl.all_horizontal(text(frame, column).is_null() for column in columns_of(spec.columns[key]))
        faults.append((f"{key}_missing", frame.select(empty).to_series()))
    mapped = pl.DataFrame(done)
    if "known_at" in schema:  # a promotion is public by the time it begins
        mapped = mapped.with_columns(pl.coalesce("known_at", "valid_from").alias("known_at"))
    return mapped.with_columns(frame.select(text(frame, name).alias(name) for name in spec.own)), faults


def carried_columns(mapping: Mapping) -> list[str]:
    """Return the names of a mapping's item-content columns."""
    return [f"{CARRIED}{name}" for name in dict.fromkeys(name for spec in mapping.events for name in spec.items)]


def merged_content(content: pl.DataFrame) -> pl.DataFrame:
    """Merge tables of CONTENT_SCHEMA to one row per item, name and value."""
    return content.group_by(_VALUE).agg(pl.col("rows").sum(), _FIRST).sort(_VALUE)


def carried_content(events: pl.DataFrame, until: datetime | None = None) -> pl.DataFrame:
    """Return the item content in the events' columns of `carried_columns`, as CONTENT_SCHEMA.

    Events that became known at or after `until` are ignored, because they would leak the future.
    """
    if until is not None:
        events = events.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
    values = [name for name in events.columns if name.startswith(CARRIED)]
    if not values:
        return pl.DataFrame(schema=CONTENT_SCHEMA)
    long = events.unpivot(values, index=["item_id", "event_time", "ingested_at", "event_id"], variable_name="name")
    found = long.drop_nulls(["item_id", "value"]).with_columns(
        pl.col("name").str.strip_prefix(CARRIED), pl.lit(1, dtype=pl.Int64).alias("rows")
    )
    return merged_content(found.cast({"value": pl.String})).select(list(CONTENT_SCHEMA))


def every_item(table: pl.DataFrame, content: pl.DataFrame, seen: pl.Series) -> pl.DataFrame:
    """Return the items table and all other items of `seen`, sorted by ID, completed with content from events.

    Among several values, the one in most events wins, then the earliest.
    """
    others = seen.drop_nulls().unique().sort().alias("item_id").to_frame()
    if not content.is_empty():
        order = ["item_id", "name", "rows", "event_time", "event_id"]
        ordered = merged_content(content).sort(order, descending=[name == "rows" for name in order])
        usual = ordered.unique(["item_id", "name"], keep="first", maintain_order=True)
        others = others.join(usual.pivot("name", index="item_id", values="value"), on="item_id", how="left")
    new = others.join(table.select("item_id"), on="item_id", how="anti", maintain_order="left")
    return pl.concat([table, new.sort("item_id")], how="diagonal_relaxed")
