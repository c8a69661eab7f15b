"""The definition of "same content": when two rows with one event ID are the same event, and when they conflict.

Files, the lake and live batches all compare events by it. `ingested_at` does not count, because when an event was
recorded changes nothing about what happened; `session_id` does not count, because it may be derived from the events
that were read together. The order of `attributes` does not count, and no attributes equal an empty list.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic_core import to_json

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


def content_key(event: Mapping[str, Any]) -> int:
    """Return the hash of the same content of one event, a dict of EVENT_SCHEMA that may lack what is null.

    It costs microseconds, where a frame of one event costs a millisecond. Compare keys within one process only.
    """
    attributes = sorted((pair["key"], pair["value"] or "") for pair in event.get("attributes") or ())
    return hash((*(event.get(name) for name in CONTENT_COLUMNS if name != "attributes"), *attributes))


def json_text(value: Any) -> str:
    """Return a JSON value as the text that attributes hold, however it was sent: keys sorted, no nulls, 2.0 as 2."""
    return to_json(_canonical(value)).decode()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in sorted(value.items()) if inner is not None}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
