"""A whole source in memory, read as production reads it, for tests that look at its tables."""

import tempfile
from pathlib import Path

import polars as pl

from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.ingest import Ingested
from events.mapping import Mapping
from events.reading import Reading, inputs_digest
from events.sources.files import Size, find_files
from events.transform.items import every_item

__all__ = ["Ingested", "read_source"]


def read_source(mapping: Mapping, inputs: list[Path], size: Size | None = None) -> Ingested:
    """Read files through a mapping."""
    with tempfile.TemporaryDirectory() as folder:
        reading = Reading(mapping, inputs, Path(folder), size, lambda line: None)
        events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA | {"table": pl.String}), *reading.labelled()])
        return Ingested(
            events=events.drop("table"),
            items=every_item(reading.sides["items"], reading.content, events["item_id"]),
            users=reading.sides["users"],
            campaigns=reading.sides["campaigns"],
            quarantined=pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *reading.quarantined()]),
            accounts=reading.accounts(),
            origin=events.select("event_id", "table"),
            item_table=reading.sides["items"],
            item_content=reading.content,
            unread=reading.unread,
            digest=inputs_digest(mapping, find_files(inputs), list(reading.accounts())),
        )
