"""The tables beside the daily views, from a log of any size: the catalogue, and the last events of every user."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from features.catalogue import Catalogue, first_prices, number_items
from features.engine.job import Progress
from features.engine.shards import Pieces
from features.recent import recent_lists

_RECENT = (
    "user_id",
    "event_id",
    "event_time",
    "ingested_at",
    "event_name",
    "item_id",
    "quantity",
    "amount",
    "order_id",
    "session_id",
)


def catalogue_of(connection: Any, events: Path, items: Path) -> Catalogue:
    """Return the catalogue of all items that occur in the events; only item ids and first prices leave DuckDB."""
    log = connection.read_parquet(str(events)).filter("item_id IS NOT NULL")
    first = log.aggregate("item_id, min(event_time) FILTER (WHERE price IS NOT NULL) AS first_time", "item_id")
    seen = first.pl()
    lines = log.filter("price IS NOT NULL").set_alias("l").join(first.set_alias("f"), "l.item_id = f.item_id")
    lines = lines.filter("l.event_time = f.first_time")
    prices = first_prices(lines.project("l.item_id, l.event_time, l.event_id, l.price").pl())
    return number_items(seen.select("item_id"), prices, pl.read_parquet(items))


def recent_parts(pieces: Pieces, n: int, high_water: datetime, progress: Progress) -> Iterator[pa.RecordBatchReader]:
    """Yield the last `n` events of every user, sorted by user, one piece of the log after the other."""
    for place, piece in enumerate(pieces.files):
        source = str(piece / "*.parquet") if piece.is_dir() else piece
        events = pl.scan_parquet(source, hive_partitioning=False).select(_RECENT).collect()
        yield recent_lists(events, n, high_water).to_arrow().to_reader()
        progress(place + 1, len(pieces.files))
