"""A lake as one folder of whole, sorted tables, as of a moment: what the stages read."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import EVENT_SCHEMA
from events.ingest import Ingested
from events.lake.index import day_events
from events.lake.manifest import Manifest
from events.lake.place import FROZEN_EVENTS, MARKER, existing
from events.lake.sides import CONTENT, SIDES, held_side, read_quarantine
from events.lake.store import Place, Store
from events.lake.tables import GroupedWriter
from events.readers import read_table
from events.transform.items import every_item
from shoplens.errors import SourceError
from shoplens.files import whole_file, write_json

_SORTED = {
    "items": ["item_id"],
    "users": ["user_id"],
    "campaigns": ["campaign_id", "user_id"],
    "quarantine": ["table", "row", "raw"],
}


def _known_at(frame: pl.DataFrame, until: datetime | None) -> pl.DataFrame:
    if until is None:
        return frame
    return frame.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))


def known_days(store: Store, manifest: Manifest, until: datetime | None = None) -> Iterator[pl.DataFrame]:
    """Yield EVENT_SCHEMA of every day in order, sorted, of the events that were known before a moment."""
    for date, day in sorted(manifest.days.items()):
        if until is None or date <= f"{until:%Y-%m-%d}":
            yield _known_at(day_events(store, day), until)


def _freeze_events(store: Store, manifest: Manifest, target: Path, until: datetime | None) -> pl.Series:
    """Write the events; return the items that are in them."""
    seen = pl.Series("item_id", [], dtype=pl.String)
    with whole_file(target / FROZEN_EVENTS) as place:
        writer = GroupedWriter(place, EVENT_SCHEMA)
        for day in known_days(store, manifest, until):
            writer.add(day)
            seen = pl.concat([seen, day["item_id"].drop_nulls()]).unique()
        writer.close()
        if not writer.rows:
            when = "" if until is None else f" before {until:%Y-%m-%d}"
            raise SourceError(
                f"data.source: the lake {store.name} holds no event{when}; bring some in with `shoplens ingest`, or "
                f"correct data.as_of"
            )
    return seen


def freeze_lake(place: Place, target: Path, until: datetime | None = None) -> None:
    """Copy a lake into one folder of whole tables, sorted, a day at a time; the same lake gives the same bytes.

    Args:
        place: The lake, a folder or an fsspec URL.
        target: An existing empty folder.
        until: Copy only what was known before this moment; quarantine and side tables carry no time and go whole.

    Raises:
        SourceError: there is no lake, it holds no event (of that time), or one of its files cannot be read.
    """
    store, manifest, identity = existing(place)
    seen = _freeze_events(store, manifest, target, until)
    sides = {name: held_side(store, manifest, name) for name in (*SIDES, CONTENT)}
    content = _known_at(sides[CONTENT], until)
    tables = {
        "items": every_item(sides["item_table"], content, seen),
        "users": sides["users"],
        "campaigns": sides["campaigns"],
        "quarantine": read_quarantine(store, manifest),
    }
    for name, frame in tables.items():
        frame.sort(_SORTED[name], nulls_last=True).write_parquet(target / f"{name}.parquet")
    write_json(target / MARKER, {"identity": identity})


def read_frozen(folder: Path) -> Ingested:
    """Read what `freeze_lake` wrote."""
    tables = {name: read_table(folder / f"{name}.parquet") for name in ("events", *_SORTED)}
    events, quarantined = tables["events"], tables["quarantine"]
    account = TableAccount(events.height + quarantined.height, events.height, count_reasons(quarantined), 0)
    origin = events.select("event_id", pl.lit("lake").alias("table"))
    return Ingested(
        events, tables["items"], tables["users"], tables["campaigns"], quarantined, {"lake": account}, origin
    )


def known_since(place: Place, moment: datetime) -> Iterator[pl.DataFrame]:
    """Yield, a day at a time, EVENT_SCHEMA of the events that became known at or after a moment.

    Raises:
        SourceError: there is no lake, or one of its files cannot be read.
    """
    store, manifest, _ = existing(place)
    for day in known_days(store, manifest):
        yield day.filter((pl.col("event_time") >= moment) | (pl.col("ingested_at") >= moment))


def read_events(place: Place) -> pl.DataFrame:
    """Return EVENT_SCHEMA of a whole lake, sorted: for lakes that fit into memory."""
    store, manifest, _ = existing(place)
    return pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *known_days(store, manifest)])
