"""What a lake says of itself: its size, its history, the days whose reports are to be made anew, its digest."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from events.lake.freeze import known_days
from events.lake.manifest import Manifest
from events.lake.place import existing
from events.lake.sides import CONTENT, SIDES, held_side, read_accounts, read_quarantine
from events.lake.store import Place


@dataclass(frozen=True)
class LakeStatus:
    """The size of a lake at its newest version; `bytes` are those of its Parquet files."""

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

    def lines(self, since: int) -> list[str]:
        """Return the status as lines for a person."""
        span = f", {self.first} to {self.last}" if self.days else ""
        late = ", ".join(self.late_days) or "none"
        return [
            f"{self.place}: version {self.version}, identity {self.identity}",
            f"{self.events:,} events of {self.days:,} days{span}",
            f"{self.files:,} files, {self.bytes:,} bytes; {self.quarantined:,} rows in quarantine",
            f"late days since version {since}: {late}",
        ]


def _late(manifest: Manifest, since: int) -> list[str]:
    return sorted(name for name, day in manifest.days.items() if day.late > since)


def lake_status(place: Place, since: int = 0) -> LakeStatus:
    """Return the size of a lake, and its days to which events came late after version `since`.

    Raises:
        SourceError: there is no lake.
    """
    store, manifest, identity = existing(place)
    of_days = [file for day in manifest.days.values() for file in day.files]
    files = [*of_days, *manifest.index, *manifest.quarantine, *manifest.accounts, *manifest.sides.values()]
    return LakeStatus(
        place=store.name,
        identity=identity,
        version=manifest.version,
        days=len(manifest.days),
        first=min(manifest.days, default=""),
        last=max(manifest.days, default=""),
        events=sum(file.rows for file in of_days),
        files=len(files),
        bytes=sum(file.bytes for file in files),
        quarantined=sum(file.rows for file in manifest.quarantine),
        late_days=tuple(_late(manifest, since)),
    )


def lake_version(place: Place) -> int:
    """Return the newest version of a lake; 0 is the one that holds nothing yet."""
    return existing(place)[1].version


def touched_days(place: Place, since_version: int) -> list[date]:
    """Return the days to which events were added after a version: whose event-time reports are to be made anew."""
    _, manifest, _ = existing(place)
    return [date.fromisoformat(name) for name, day in sorted(manifest.days.items()) if day.changed > since_version]


def late_days(place: Place, since_version: int) -> list[date]:
    """Return the days among `touched_days` to which events came when the lake had a later day already."""
    _, manifest, _ = existing(place)
    return [date.fromisoformat(name) for name in _late(manifest, since_version)]


def lake_quarantine(place: Place) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA of a lake: the rows that it set aside."""
    store, manifest, _ = existing(place)
    return read_quarantine(store, manifest)


def lake_accounts(place: Place) -> list[dict[str, Any]]:
    """Return what became of the rows of every append, in no order: mapping, inputs, tables, late_days."""
    store, manifest, _ = existing(place)
    return read_accounts(store, manifest)


def _add(total: Any, name: str, frame: pl.DataFrame, leave_out: Collection[str]) -> None:
    columns = sorted(column for column in frame.columns if column not in leave_out)
    # As text: what the rows say, not how a file or a library keeps them. A table of no rows is as none.
    lines = frame.select(pl.struct(columns).struct.json_encode().alias("line"))["line"].sort()
    for line in lines:
        total.update(f"{name}\x1f{line}\n".encode())


def lake_digest(place: Place, leave_out: Collection[str] = ()) -> str:
    """Return the SHA-256 of what a lake holds, however its files are cut and named and in which order it came.

    Its identity, events, items, users, campaigns and quarantine count; accounts and versions, which tell how they came
    there, do not. Memory: the largest day, or the largest of the other tables.

    Args:
        place: The lake, a folder or an fsspec URL.
        leave_out: Columns that do not count, such as `ingested_at` where a clock gave it.

    Raises:
        SourceError: there is no lake, or a file of it cannot be read.
    """
    store, manifest, identity = existing(place)
    total = hashlib.sha256(identity.encode())
    for day in known_days(store, manifest):
        _add(total, "events", day, leave_out)
    for name in (*SIDES, CONTENT):
        _add(total, name, held_side(store, manifest, name), leave_out)
    _add(total, "quarantine", read_quarantine(store, manifest), leave_out)
    return total.hexdigest()
