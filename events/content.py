"""The definition of "same content": when two rows with one event ID are the same event, and when they conflict.

Files, the lake and live batches all compare events by it. `ingested_at` does not count, because when an event was
recorded changes nothing about what happened; `session_id` does not count, because it may be derived from the events
that were read together. The order of `attributes` does not count, and no attributes equal an empty list.
"""

import polars as pl

from events.contract import EVENT_SCHEMA

OTHER_CONTENT = "event_id_with_other_content"
"""The reason for quarantining an event whose ID is known with other content."""

CONTENT_COLUMNS: tuple[str, ...] = tuple(
    name for name in EVENT_SCHEMA if name not in ("event_id", "ingested_at", "session_id")
)


def content_hash() -> pl.Expr:
    """Return the 64-bit hash of an event's content, for frames of EVENT_SCHEMA.

    Compare hashes within one process only: Polars may change them between versions.
    """
    key, value = (pl.element().struct.field(name) for name in ("key", "value"))
    attributes = pl.col("attributes").list.eval(pl.element().sort_by(key, value))
    others = [name for name in CONTENT_COLUMNS if name != "attributes"]
    filled = pl.when(pl.col("attributes").list.len() > 0).then(attributes).alias("attributes")
    return pl.struct(*others, filled).hash(seed=0)


def content_hash_sql() -> str:
    """Return the same hash as a DuckDB expression over the columns of EVENT_SCHEMA.

    Compare hashes within one query only: their values differ from those of `content_hash`.
    """
    others = ", ".join(f'"{name}"' for name in CONTENT_COLUMNS if name != "attributes")
    return f"hash(row({others}, nullif(list_sort(attributes), [])))"
