"""Events that a lake holds already."""

from pathlib import Path

import polars as pl

from events.contract import EVENT_SCHEMA
from events.readers import first_line, read_table
from shoplens.errors import SourceError

# A session may be derived from what else was read; when the event was booked says nothing about what it was.
_CONTENT = [name for name in EVENT_SCHEMA if name not in ("ingested_at", "session_id")]


def _days(folder: Path, events: pl.DataFrame, *, everywhere: bool) -> list[Path]:
    days = sorted((folder / "events").glob("event_date=*/part.parquet"))
    if everywhere:
        return days
    dates = {f"event_date={date}" for date in events["event_time"].dt.date().unique().to_list()}
    return [day for day in days if day.parent.name in dates]


def _marked(events: pl.DataFrame, name: str) -> pl.DataFrame:
    return events.select("event_id", pl.struct(_CONTENT).hash(seed=0).alias(name))


def known_events(folder: Path, events: pl.DataFrame, *, everywhere: bool) -> pl.DataFrame:
    """Return event_id, and whether the content is the `same`, of the events that the lake holds already.

    Args:
        folder: The lake.
        events: EVENT_SCHEMA, one row an id.
        everywhere: Look in every day, for ids that the source gives. Derived ids contain the time: one of them can
            only be in the event's own day.

    Raises:
        SourceError: a day of the lake cannot be read.
    """
    days = _days(folder, events, everywhere=everywhere)
    nothing = pl.DataFrame(schema={"event_id": pl.String, "same": pl.Boolean})
    if not days:
        return nothing
    scan = pl.scan_parquet(days, glob=False, hive_partitioning=False, include_file_paths="_day")
    try:
        ids = events.lazy().select("event_id")
        hits = scan.select("event_id", "_day").join(ids, on="event_id", how="semi").collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        for day in days:
            read_table(day)  # names the one that is broken
        raise SourceError(f"{folder}: a day of the lake cannot be read: {first_line(error)}. Restore it") from error
    if hits.is_empty():
        return nothing
    known = hits.select("event_id")
    held = pl.concat(
        [
            _marked(read_table(Path(day)).join(known, on="event_id", how="semi"), "_held")
            for day in hits["_day"].unique().sort().to_list()
        ]
    ).unique("event_id", keep="first", maintain_order=True)
    fresh = _marked(events.join(known, on="event_id", how="semi"), "_fresh")
    return fresh.join(held, on="event_id", how="inner", maintain_order="left").select(
        "event_id", (pl.col("_fresh") == pl.col("_held")).alias("same")
    )
