"""What a lake reports about itself: its size, its history, the days whose events changed, its digest."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import Any

import polars as pl

from events.contract import SIDE_SCHEMAS
from events.lake.snapshot import Snapshot
from events.lake.table import CONTENT, EVENTS, QUARANTINE, SCHEMAS, Place, clear_errors


@dataclass(frozen=True)
class LakeStatus:
    """The size of a lake at its newest version, and its history; `files` and `bytes` are those of its Parquet files."""

    place: str
    identity: str
    version: int
    days: int
    first: str
    last: str
    events: int
    files: int
    bytes: int
    quarantined: int
    late_days: tuple[str, ...]
    history: tuple[str, ...]

    def lines(self, since: int) -> list[str]:
        """Return the status as lines for a person."""
        span = f", {self.first} to {self.last}" if self.days else ""
        late = ", ".join(self.late_days) or "none"
        return [
            f"{self.place}: version {self.version}, identity {self.identity}",
            f"{self.events:,} events of {self.days:,} days{span}",
            f"{self.files:,} files, {self.bytes:,} bytes; {self.quarantined:,} rows in quarantine",
            *self.history,
            f"late days since version {since}: {late}",
        ]


def history_line(row: dict[str, Any]) -> str:
    """Return one batch of a lake's history as a line: version, batch, time, mapping and rows."""
    start = f"version {row['version']}: {row['batch']}, {row['committed_at']:%Y-%m-%d %H:%M:%S}, "
    if row["reverts"]:
        return f"{start}{row['mapping']} of {row['reverts']}"
    tables = json.loads(row["tables"]).values()
    rows_in, accepted = (sum(table[name] for table in tables) for name in ("rows_in", "accepted"))
    return f"{start}{row['mapping']}, {rows_in:,} rows, {accepted:,} accepted"


def lake_status(place: Place, since: int = 0, last: int = 20) -> LakeStatus:
    """Return the size of a lake, its days to which events came late after version `since`, and its last batches.

    Raises:
        SourceError: there is no lake.
    """
    snapshot = Snapshot(place)
    events = snapshot.files()
    with clear_errors(snapshot.name):
        others = [table for name in SCHEMAS if name != EVENTS and (table := snapshot.lake.find(name)) is not None]
        tables = [pl.DataFrame(table.get_add_actions(flatten=True)) for table in others]
        sizes = [size for files in (events, *tables) for size in files["size_bytes"]]
    days = snapshot.days()
    return LakeStatus(
        place=snapshot.name,
        identity=snapshot.identity,
        version=snapshot.version,
        days=len(days),
        first=str(days[0]) if days else "",
        last=str(days[-1]) if days else "",
        events=int(events["num_records"].sum()),
        files=len(sizes),
        bytes=sum(sizes),
        quarantined=snapshot.quarantine().height,
        late_days=tuple(str(day) for day in _days(snapshot, "late_days", since)),
        history=tuple(history_line(row) for row in snapshot.history.tail(last).iter_rows(named=True)),
    )


def _days(snapshot: Snapshot, column: str, since: int) -> list[date]:
    after = snapshot.history.filter(pl.col("version") > since)
    return sorted({date.fromisoformat(day) for days in after[column] for day in days})


def lake_version(place: Place) -> int:
    """Return the newest version of a lake, which is that of its Delta table `events`; 0 holds nothing yet."""
    return Snapshot(place).version


def touched_days(place: Place, since_version: int) -> list[date]:
    """Return the days whose events changed after a version: reports by event time are to be computed again."""
    return _days(Snapshot(place), "days", since_version)


def late_days(place: Place, since_version: int) -> list[date]:
    """Return the days among `touched_days` to which events came when the lake had a later day already."""
    return _days(Snapshot(place), "late_days", since_version)


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
