"""Sessions of sources that have none: a person's events with gaps of at most half an hour."""

from datetime import timedelta
from pathlib import Path

import polars as pl

from events.spill import buckets, scan

_IDLE = timedelta(minutes=30)  # Google Analytics' session time-out
WHO = pl.coalesce("user_id", "anonymous_id").alias("_who")


def _with_starts(events: pl.DataFrame) -> pl.DataFrame:
    """Return `_who` and event_time, sorted, with `_start`: the second in which the session of each began."""
    ordered = events.sort("_who", "event_time")
    new = (pl.col("event_time").diff().over("_who") > _IDLE).fill_null(value=True)
    return ordered.with_columns(pl.when(new).then(pl.col("event_time").dt.epoch("s")).forward_fill().alias("_start"))


def _named(events: pl.DataFrame) -> pl.DataFrame:
    """Fill missing session ids, of who and the session's first second; `_who` and `_start` go."""
    derived = pl.concat_str([pl.col("_who"), pl.col("_start").cast(pl.String)], separator="-")
    return events.with_columns(pl.coalesce("session_id", derived).alias("session_id")).drop("_who", "_start")


def derive_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Fill missing session ids: a person's events with gaps of at most 30 minutes; the id is who and first moment."""
    if events["session_id"].null_count() == 0:
        return events
    return _named(_with_starts(events.with_columns(WHO)))


def write_starts(moments: list[Path], folder: Path, count: int) -> list[Path]:
    """Find when the session began of every moment of a person that lacks a session id.

    Args:
        moments: Parquet files of `_who`, event_time and `_missing`, whether a session id is, of all events.
        folder: Where to write.
        count: In how many parts to go through the people.

    Returns:
        Parquet files of `_who`, event_time and `_start`, one row a moment of a person, each sorted by event_time.
    """
    written = []
    for n, people in enumerate(buckets(scan(moments), "_who", count, folder / "people")):
        lacking = people.filter(pl.col("_missing").any().over("_who"))
        starts = _with_starts(lacking).filter("_missing").select("_who", "event_time", "_start")
        written.append(folder / f"starts-{n:05}.parquet")
        starts.unique().sort("event_time", "_who").write_parquet(written[-1], compression="lz4")
    return written


def with_sessions(events: pl.DataFrame, starts: pl.DataFrame) -> pl.DataFrame:
    """Fill missing session ids with what `write_starts` found; the rows keep their order."""
    found = events.with_columns(WHO).join(starts, on=["_who", "event_time"], how="left", maintain_order="left")
    return _named(found)
