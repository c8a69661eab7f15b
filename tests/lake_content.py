"""What a lake holds: all its events, and one digest that is equal for equal content, however it came there."""

import hashlib
from collections.abc import Collection
from itertools import chain

import polars as pl

from events.contract import EVENT_SCHEMA, SIDE_SCHEMAS
from events.lake import Place, Snapshot
from events.lake.table import CONTENT, EVENTS, QUARANTINE


def read_events(place: Place, version: int | None = None) -> pl.DataFrame:
    """Return EVENT_SCHEMA of a whole lake, sorted: for lakes that fit into memory."""
    return pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *Snapshot(place, version).each_day()])


def lake_digest(place: Place, leave_out: Collection[str] = ()) -> str:
    """Return the SHA-256 of what a lake holds, however its files are cut and named and in which order they came.

    Its identity, events, side tables and quarantine count; accounts, batches and versions, which tell how they came
    there, do not. Memory: the largest day and the other tables.

    Args:
        place: The lake, a folder or an object-store URL.
        leave_out: Columns that do not count, such as `ingested_at` where a clock gave it.

    Raises:
        SourceError: there is no lake, or a file of it cannot be read.
    """
    snapshot = Snapshot(place)
    total = hashlib.sha256(snapshot.identity.encode())
    others = {name: snapshot.side(name) for name in SIDE_SCHEMAS}
    others |= {CONTENT: snapshot.content(), QUARANTINE: snapshot.quarantine().drop("batch")}
    for name, frame in chain(((EVENTS, day) for day in snapshot.each_day()), others.items()):
        columns = sorted(column for column in frame.columns if column not in leave_out)
        # As text: what the rows hold, not how a file or a library stores them. A table of no rows is as none.
        for line in frame.select(pl.struct(columns).struct.json_encode().alias("line"))["line"].sort():
            total.update(f"{name}\x1f{line}\n".encode())
    return total.hexdigest()
