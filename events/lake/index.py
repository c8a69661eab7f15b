"""Which event ids a lake holds, and on which day: what tells a repeated event without reading the lake.

An id is kept as 48 bits of its BLAKE2b, with its day: about 8 bytes an event. An append reads the index a row group at
a time and then only the days that it names, where the ids themselves are compared: of 100,000 ids in a lake of ten
million, 0.004 are looked up in vain.
"""

from datetime import date, timedelta
from hashlib import blake2b
from typing import Any

import polars as pl

from events.contract import EVENT_SCHEMA
from events.lake.manifest import Day, File, Manifest
from events.lake.store import Store
from events.lake.tables import aligned, merged, read_file, row_groups, write_file

INDEX = "index"
INDEX_SCHEMA: dict[str, Any] = {"id": pl.Int64, "day": pl.Int32}
_GROUP = 1 << 20
_EPOCH = date(1970, 1, 1)
# A session may be derived from what else was read; when the event was booked says nothing about what it was.
_CONTENT = [name for name in EVENT_SCHEMA if name not in ("ingested_at", "session_id")]
KNOWN_SCHEMA: dict[str, Any] = {"event_id": pl.String, "same": pl.Boolean}


def _short(ids: pl.Series) -> pl.Series:
    """Return 48 bits of every id. Never change it: the index of every lake hangs on it."""
    digests = [int.from_bytes(blake2b(one.encode(), digest_size=6).digest(), "little") for one in ids]
    return pl.Series("id", digests, dtype=pl.Int64)


def index_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Return INDEX_SCHEMA of events."""
    days = events["event_time"].dt.date().cast(pl.Int32).alias("day")
    return pl.DataFrame([_short(events["event_id"]), days]).sort("id")


def with_indexed(store: Store, index: tuple[File, ...], events: pl.DataFrame) -> tuple[File, ...]:
    """Return the runs of the index with one more, of these events."""
    return (*index, write_file(store, INDEX, index_rows(events))) if events.height else index


def tidied(store: Store, index: tuple[File, ...]) -> tuple[File, ...]:
    """Return the runs of the index, those merged that are due."""
    return merged(store, index, INDEX, INDEX_SCHEMA, group=_GROUP, sort="id")


def day_events(store: Store, day: Day) -> pl.DataFrame:
    """Return EVENT_SCHEMA of one day, sorted by event_time and event_id."""
    frames = [aligned(read_file(store, file), EVENT_SCHEMA) for file in day.files]
    return pl.concat(frames).sort("event_time", "event_id")


def _suspects(store: Store, runs: tuple[File, ...], ids: pl.Series) -> pl.DataFrame:
    """Return event_id and day of ids that the index seems to hold."""
    asked = pl.DataFrame([ids.alias("event_id"), _short(ids)])
    found = [pl.DataFrame(schema={"event_id": pl.String, "day": pl.Int32})]
    for run in runs:
        for group in row_groups(store, run):
            found.append(group.join(asked, on="id", how="inner").select("event_id", "day"))
    return pl.concat(found)


def share_an_id(store: Store, some: tuple[File, ...], others: tuple[File, ...]) -> bool:
    """Say whether two sets of runs of an index seem to share an id."""
    for run in some:
        for group in row_groups(store, run, ["id"]):
            for other in others:
                if any(
                    not group.join(mine, on="id", how="semi").is_empty() for mine in row_groups(store, other, ["id"])
                ):
                    return True
    return False


def _marked(events: pl.DataFrame, name: str) -> pl.DataFrame:
    return events.select("event_id", pl.struct(_CONTENT).hash(seed=0).alias(name))


def known_events(store: Store, manifest: Manifest, runs: tuple[File, ...], events: pl.DataFrame) -> pl.DataFrame:
    """Return KNOWN_SCHEMA of the events that the lake holds: event_id, and whether the content is the `same`.

    Args:
        store: The files of the lake.
        manifest: Its version.
        runs: Those of its index to look into.
        events: EVENT_SCHEMA, one row an id.

    Raises:
        SourceError: a file of the lake cannot be read.
    """
    suspects = _suspects(store, runs, events["event_id"]).unique()
    asked = events.join(suspects, on="event_id", how="inner", maintain_order="left")
    marks = [pl.DataFrame(schema=KNOWN_SCHEMA)]
    for (day,), rows in asked.partition_by("day", as_dict=True, include_key=False).items():
        held = day_events(store, manifest.days[str(_EPOCH + timedelta(days=day))])
        held = held.join(rows, on="event_id", how="semi")
        both = _marked(rows, "_fresh").join(_marked(held, "_held"), on="event_id", how="inner", maintain_order="left")
        marks.append(both.select("event_id", (pl.col("_fresh") == pl.col("_held")).alias("same")))
    return pl.concat(marks).unique("event_id", keep="first", maintain_order=True)
