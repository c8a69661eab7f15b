"""Items: those of an items table, and those only seen in events, with the content that rode on the events."""

from datetime import datetime

import polars as pl

from events.contract import UTC_TIME
from events.mapping import EventTable, Mapping
from events.values import path

# One row an item and column of content: the first value that is known, and the event that carried it.
CONTENT_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "name": pl.String(),
    "value": pl.String(),
    "event_time": UTC_TIME,
    "ingested_at": UTC_TIME,
    "event_id": pl.String(),
}
_RIDING = "_item:"


def content_columns(frame: pl.DataFrame, spec: EventTable) -> list[pl.Expr]:
    """Return the item content of a table of events, as columns that ride along with the events."""
    return [path(frame, category).alias(f"{_RIDING}{name}") for name, category in spec.items.items()]


def riding_columns(mapping: Mapping) -> list[str]:
    """Return the names of all columns that ride along with the events of a mapping."""
    return [f"{_RIDING}{name}" for name in dict.fromkeys(name for spec in mapping.events for name in spec.items)]


def first_content(content: pl.DataFrame) -> pl.DataFrame:
    """Return CONTENT_SCHEMA with the first value of every item and column.

    Content is taken where it was first seen: later values would tell the past about the future.
    """
    ordered = content.sort("item_id", "name", "event_time", "event_id")
    return ordered.unique(["item_id", "name"], keep="first", maintain_order=True)


def known_content(known: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Return CONTENT_SCHEMA of what is known, and of later events what they say for the first time."""
    return pl.concat([known, later.join(known, on=["item_id", "name"], how="anti")])


def riding_content(events: pl.DataFrame, until: datetime | None = None) -> pl.DataFrame:
    """Return CONTENT_SCHEMA of what rode on events, out of the columns that `content_columns` made.

    Args:
        events: With these columns.
        until: Only of events that were known before this moment.
    """
    if until is not None:
        events = events.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
    keys = ["item_id", "event_time", "ingested_at", "event_id"]
    found = [
        events.filter(pl.col("item_id").is_not_null() & pl.col(column).is_not_null())
        .select(*keys, pl.lit(column.removeprefix(_RIDING)).alias("name"), pl.col(column).alias("value"))
        .select(list(CONTENT_SCHEMA))
        for column in events.columns
        if column.startswith(_RIDING)
    ]
    return first_content(pl.concat(found)) if found else pl.DataFrame(schema=CONTENT_SCHEMA)


def every_item(table: pl.DataFrame, content: pl.DataFrame, seen: pl.Series) -> pl.DataFrame:
    """Return the rows of the items table, then every other item that was seen, with what rode on its events.

    Args:
        table: ITEM_SCHEMA, and the source's own columns.
        content: CONTENT_SCHEMA.
        seen: Item ids, in any order, with repetitions and nulls.
    """
    others = seen.drop_nulls().unique().sort().alias("item_id").to_frame()
    if not content.is_empty():
        others = others.join(content.pivot("name", index="item_id", values="value"), on="item_id", how="left")
    new = others.join(table.select("item_id"), on="item_id", how="anti", maintain_order="left")
    return pl.concat([table, new.sort("item_id")], how="diagonal_relaxed")
