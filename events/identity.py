"""Event identity: IDs for events whose source has none, and the definition of "same content".

Two rows with the same event ID are one event if their content is the same; otherwise they conflict. Files, the lake
and live batches all use this definition. It ignores `ingested_at`, because the time of recording says nothing about
the event itself, and `session_id`, which may be derived from the events that were read together. The order of
`attributes` is ignored, and null equals an empty list.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import polars as pl

from events.contract import EVENT_SCHEMA

UNIT = "\x1f"
"""Joins the parts of a key: ASCII's unit separator is in no text that people type."""

OTHER_CONTENT = "event_id_with_other_content"
"""Quarantine reason of an event whose ID is already known with different content."""

OLDER_VERSION = "older_version"
"""The reason for quarantining a row of which another row is a newer version."""

VERSION = "_version"
"""Names the column of a row's version: of rows with one event ID, the highest one is the event."""

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
    """Return a DuckDB expression that hashes the same content, over the columns of EVENT_SCHEMA.

    Compare hashes within one query only: their values differ from those of `content_hash`.
    """
    others = ", ".join(f'"{name}"' for name in CONTENT_COLUMNS if name != "attributes")
    return f"hash(row({others}, nullif(list_sort(attributes), [])))"


def content_key(event: Mapping[str, Any]) -> int:
    """Return a hash of the same content for one event, a dict of EVENT_SCHEMA that may omit nulls.

    It takes microseconds; hashing a frame of one event takes a millisecond. Compare keys within one process only.
    """
    attributes = sorted((pair["key"], pair["value"] or "") for pair in event.get("attributes") or ())
    return hash((*(event.get(name) for name in CONTENT_COLUMNS if name != "attributes"), *attributes))


def salt_of(table: str, place: int) -> str:
    """Return the salt of a table's IDs; `place` is the entry's position, from 0, among the entries that read it."""
    return table if place == 0 else f"{table}{UNIT}{place}"


def derived_ids(salt: str, parts: Sequence[pl.Series], keys: pl.Series | None) -> pl.Series:
    """Return one ID per row, derived from the row's key, or from the names and values of `parts` if it has no key.

    The IDs are the same each time a file is read. Column names are part of the hashed text, so empty columns do not
    change the ID. An ID is 96 bits of an MD5 in hexadecimal: the collision probability for a billion rows is 1e-11.
    """
    named = [(pl.lit(f"{part.name}=") + part).alias(str(n)) for n, part in enumerate(parts)]
    line = pl.concat_str([pl.lit(salt), pl.all()], separator=UNIT, ignore_nulls=True)
    if keys is not None:
        line = pl.coalesce(pl.concat_str(pl.lit(f"{salt}{UNIT}once"), pl.lit(keys), separator=UNIT), line)
    frame = pl.select(named).select(line.alias("line"))  # read by DuckDB, under its name; its MD5 runs on all cores
    with duckdb.connect() as connection:
        connection.register("rows", frame.to_arrow())
        found = connection.sql("SELECT left(md5(line), 24) AS event_id FROM rows").pl()
    return pl.Series(found["event_id"])


class Seen:
    """Counts occurrences of keys across pieces and files, at 16 bytes per key."""

    def __init__(self) -> None:
        self._counts = pl.DataFrame(schema={"key": pl.UInt64, "count": pl.UInt32})

    def before(self, keys: pl.Series) -> pl.Series:
        """Return how often each key occurred before, then count the new occurrences."""
        frame = keys.hash(seed=0).alias("key").to_frame()
        counted = frame.group_by("key").agg(pl.len().cast(pl.UInt32).alias("count"))
        earlier = (
            self._counts.join(counted.select("key"), on="key", how="semi").group_by("key").agg(pl.col("count").sum())
        )
        self._counts = pl.concat([self._counts, counted])
        here = pl.int_range(pl.len(), dtype=pl.UInt32).over("key")
        joined = frame.join(earlier, on="key", how="left", maintain_order="left")
        return joined.select(pl.col("count").fill_null(0) + here).to_series()


def numbered_ids(ids: pl.Series, seen: Seen) -> pl.Series:
    """Return IDs that number repeated lines after the first: `nth` of identified_by."""
    nth = seen.before(ids).alias("nth")
    if not (nth > 0).any():
        return ids
    number = pl.when(pl.col("nth") > 0).then(pl.col("nth").cast(pl.String))
    return (
        pl.DataFrame([ids, nth]).select(pl.concat_str(ids.name, number, separator=":", ignore_nulls=True)).to_series()
    )
