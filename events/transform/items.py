"""Items: those of an items table, and those only seen in events, with the content that the events carried."""

from datetime import datetime

import polars as pl

from events.contract import UTC_TIME
from events.mapping import EventTable, Mapping
from events.transform.numbers import path

# One row per item, column of content and value: how many events carried it, and the least of their keys.
CONTENT_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "name": pl.String(),
    "value": pl.String(),
    "rows": pl.Int64(),
    "event_time": UTC_TIME,
    "ingested_at": UTC_TIME,
    "event_id": pl.String(),
}
_CARRIED = "_item:"
_VALUE = ["item_id", "name", "value"]
_EARLIEST = pl.col("event_time", "ingested_at", "event_id").min()


def content_columns(frame: pl.DataFrame, spec: EventTable) -> list[pl.Expr]:
    """Return the item content of a table of events, as columns beside the events."""
    return [path(frame, category).alias(f"{_CARRIED}{name}") for name, category in spec.items.items()]


def carried_columns(mapping: Mapping) -> list[str]:
    """Return the names of all columns of item content beside the events of a mapping."""
    return [f"{_CARRIED}{name}" for name in dict.fromkeys(name for spec in mapping.events for name in spec.items)]


def merged_content(content: pl.DataFrame) -> pl.DataFrame:
    """Return CONTENT_SCHEMA of several tables of it: one row per item, name and value."""
    return content.group_by(_VALUE).agg(pl.col("rows").sum(), _EARLIEST).sort(_VALUE)


def carried_content(events: pl.DataFrame, until: datetime | None = None) -> pl.DataFrame:
    """Return CONTENT_SCHEMA of what events carried in the columns of `content_columns`.

    Only events that were known before `until` count: later ones would reveal the future.
    """
    if until is not None:
        events = events.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
    found = [
        events.filter(pl.col("item_id").is_not_null() & pl.col(column).is_not_null())
        .group_by("item_id", pl.col(column).alias("value"))
        .agg(pl.len().cast(pl.Int64).alias("rows"), _EARLIEST)
        .with_columns(pl.lit(column.removeprefix(_CARRIED)).alias("name"))
        .select(list(CONTENT_SCHEMA))
        for column in events.columns
        if column.startswith(_CARRIED)
    ]
    return pl.concat(found).sort(_VALUE) if found else pl.DataFrame(schema=CONTENT_SCHEMA)


def usual_content(content: pl.DataFrame) -> pl.DataFrame:
    """Return `item_id` and one column per name of content: the value that most events carried, then the earliest."""
    ordered = content.sort(
        "item_id", "name", "rows", "event_time", "event_id", descending=[False, False, True, False, False]
    )
    return ordered.unique(["item_id", "name"], keep="first", maintain_order=True).pivot(
        "name", index="item_id", values="value"
    )


def every_item(table: pl.DataFrame, content: pl.DataFrame, seen: pl.Series) -> pl.DataFrame:
    """Return the rows of the items table, then every other item of `seen` with its `usual_content`, sorted by ID."""
    others = seen.drop_nulls().unique().sort().alias("item_id").to_frame()
    if not content.is_empty():
        others = others.join(usual_content(merged_content(content)), on="item_id", how="left")
    new = others.join(table.select("item_id"), on="item_id", how="anti", maintain_order="left")
    return pl.concat([table, new.sort("item_id")], how="diagonal_relaxed")
