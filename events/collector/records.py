"""What the collector's log holds: events to the contract, and what was set aside, one JSON object a record."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import polars as pl
from pydantic_core import from_json, to_json

from events.collector.log import Record
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA, UTC_TIME

TABLE = "collector"  # what quarantine calls the source
_ASIDE = b'{"aside":'
_AS_TEXT = {name: pl.String() if kind == UTC_TIME else kind for name, kind in EVENT_SCHEMA.items()}


def accepted(event: dict[str, Any]) -> bytes:
    """Return the record of an event: the columns of the contract that it has."""
    return to_json(event)


def set_aside(raw: str, reasons: Sequence[str]) -> bytes:
    """Return the record of what cannot be an event, as it was sent."""
    return to_json({"aside": raw, "reasons": list(reasons)})


def events_of(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the events among records, in their order; times as `datetime` in UTC."""
    found = []
    for record in records:
        if not record.content.startswith(_ASIDE):
            event = from_json(record.content)
            for name in ("event_time", "ingested_at"):
                event[name] = datetime.fromisoformat(event[name])
            found.append(event)
    return found


def frame_of(events: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return EVENT_SCHEMA of events with `datetime` times."""
    return pl.DataFrame({name: [event.get(name) for event in events] for name in EVENT_SCHEMA}, schema=EVENT_SCHEMA)


def _number(raw: str) -> int:
    return int.from_bytes(blake2b(raw.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1


def tables_of(records: Sequence[Record]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return EVENT_SCHEMA of the events among records, and QUARANTINE_SCHEMA of the rest.

    The row of what was set aside is a number made of its text: sent again, it is the same one.
    """
    good = [record.content for record in records if not record.content.startswith(_ASIDE)]
    bad = [from_json(record.content) for record in records if record.content.startswith(_ASIDE)]
    quarantined = pl.DataFrame(
        {
            "table": [TABLE] * len(bad),
            "row": [_number(one["aside"]) for one in bad],
            "reasons": [one["reasons"] for one in bad],
            "raw": [one["aside"] for one in bad],
        },
        schema=QUARANTINE_SCHEMA,
    )
    if not good:
        return pl.DataFrame(schema=EVENT_SCHEMA), quarantined
    frame = pl.read_ndjson(b"\n".join(good), schema=_AS_TEXT)
    times = [name for name, kind in EVENT_SCHEMA.items() if kind == UTC_TIME]
    events = frame.with_columns(pl.col(times).str.to_datetime("%+", time_unit="us", time_zone="UTC"))
    # a file's events without attributes have an empty list, too
    bare = pl.col("attributes").fill_null(pl.lit([], dtype=EVENT_SCHEMA["attributes"]))
    return events.with_columns(bare).select(list(EVENT_SCHEMA)), quarantined
