"""A lake at one version: its rows, frozen copies as of a point in time, and status reports."""

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA, SIDE_SCHEMAS
from events.lake.commit import pending_accounts
from events.lake.known_ids import held_rows
from events.lake.table import (
    ACCOUNTS,
    CONTENT,
    EVENTS,
    QUARANTINE,
    SCHEMAS,
    Lake,
    Place,
    added_files,
    clear_errors,
    identity_of,
    require_same_identity,
)
from events.mapping import Mapping
from events.parquet import GroupedWriter
from events.transform.side_tables import every_item, merged_content
from shoplens.errors import SourceError
from shoplens.files import read_json, whole_file, write_json

FROZEN_EVENTS, FROZEN_MARKER = "events.parquet", "lake.json"
# Key columns of the side tables; the newest known values per key win.
SIDE_KEYS = {
    "items": ["item_id"],
    "users": ["user_id"],
    "campaigns": ["campaign_id", "user_id"],
    "promotions": ["item_id", "store_id", "placement", "valid_from", "valid_to"],
    "stock": ["item_id", "as_of"],
}
_KNOWN_AT = {"promotions": "known_at", "stock": "as_of"}
_QUARANTINE_ORDER = ["table", "row", "raw"]
_LISTED = 20  # number of batches shown


class Snapshot:
    """A lake at one version of its events.

    Attributes:
        name: Path or URL of the lake.
        identity: `user` or `session`.
        version: Version of the Delta table `events`.
        history: Accounts of all commits up to the version, including reverts and reverted batches.
        accounts: Accounts of the batches in this version, in commit order.
    """

    def __init__(self, place: Place, version: int | None = None) -> None:
        """Open a lake at its newest version, or at an earlier one.

        Raises:
            SourceError: there is no lake, or the version no longer exists.
        """
        self.lake = Lake(place)
        self.events = self.lake.events(version)
        self.name, self.identity, self.version = self.lake.name, identity_of(self.events), self.events.version()
        with clear_errors(self.name):
            # Read pending accounts first: one that leaves `pending` in between will be in `accounts`.
            pending = [one.frame() for one in pending_accounts(self.lake) if one.is_in(self.events)]
            rows = pl.concat([self._rows(ACCOUNTS), *pending]).filter(pl.col("version") <= self.version)
        self.history = rows.unique("batch").sort("version", "batch")
        reverted = set(self.history["reverts"].drop_nulls())
        self.accounts = self.history.filter(~pl.col("batch").is_in(reverted), pl.col("reverts").is_null())

    def _rows(self, name: str) -> pl.DataFrame:
        """Return a raw table, including rows of uncommitted batches."""
        table = self.lake.find(name)
        if table is None:
            return pl.DataFrame(schema=SCHEMAS[name])
        rows = pl.scan_delta(table).collect()
        known = {name: kind for name, kind in SCHEMAS[name].items() if name in rows.columns}
        return pl.concat([pl.DataFrame(schema=SCHEMAS[name]), rows.cast(known)], how="diagonal")  # type: ignore[arg-type]

    def rows(self, name: str) -> pl.DataFrame:
        """Return the rows of a table other than `events` that committed batches added, in commit order."""
        with clear_errors(self.name):
            order = self.accounts.select("batch").with_row_index("_order")
            found = self._rows(name).join(order, on="batch", how="inner", maintain_order="left")
            return found.sort("_order", maintain_order=True).drop("_order")

    def files(self) -> pl.DataFrame:
        """Return the files of the events: path, size_bytes, num_records, partition.day and statistics."""
        return added_files(self.events)

    def days(self) -> list[date]:
        """Return the days that have events, in order."""
        return sorted(self.files()["partition.day"].unique())

    def day(self, day: date, until: datetime | None = None) -> pl.DataFrame:
        """Return a day's events that were known before a given time, sorted by event_time and event_id."""
        with clear_errors(self.name):
            rows = held_rows(self.events, day).drop("batch")
            if until is not None:
                rows = rows.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
            return rows.sort("event_time", "event_id").collect()

    def each_day(self, until: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Yield each day's events that were known before a given time, in order."""
        for day in self.days():
            if until is None or day <= until.date():
                yield self.day(day, until)

    def side(self, name: str, until: datetime | None = None) -> pl.DataFrame:
        """Return a side table with one row per key and the newest known value in each column."""
        rows = self.rows(name).drop("batch")
        if until is not None and name in _KNOWN_AT:
            rows = rows.filter(pl.col(_KNOWN_AT[name]) < until)
        key = SIDE_KEYS[name]
        newest = rows.group_by(key, maintain_order=True).agg(pl.exclude(key).drop_nulls().last())
        return newest.select(rows.columns).sort(key, nulls_last=True)

    def content(self, until: datetime | None = None) -> pl.DataFrame:
        """Return the item content in events, one row per item, name and value."""
        rows = self.rows(CONTENT).drop("batch")
        if until is not None:
            rows = rows.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
        return merged_content(rows)

    def items(self, seen: pl.Series, until: datetime | None = None) -> pl.DataFrame:
        """Return all items of the items table and all other items seen, completed with content from events."""
        return every_item(self.side("items"), self.content(until), seen)

    def quarantine(self) -> pl.DataFrame:
        """Return the distinct quarantined rows that were not replayed: QUARANTINE_SCHEMA and `batch`."""
        replayed = self.accounts.select(pl.col("replayed").explode(empty_as_null=False)).unnest("replayed")
        rows = self.rows(QUARANTINE).select(*QUARANTINE_SCHEMA, "batch")
        left = rows.join(replayed, on=["batch", "table", "row"], how="anti", maintain_order="left")
        return left.unique(_QUARANTINE_ORDER, keep="first", maintain_order=True)

    def touched_days(self, since: int, column: str = "days") -> list[date]:
        """Return the days whose events changed after a version, so that reports on them must be recomputed."""
        after = self.history.filter(pl.col("version") > since)
        return [date.fromisoformat(day) for day in after[column].explode().drop_nulls().unique().sort()]

    def late_days(self, since: int) -> list[date]:
        """Return the `touched_days` that got events when the lake already had a later day."""
        return self.touched_days(since, "late_days")


def _identity(place: Place) -> str | None:
    """Return the kind of identity of a lake or a frozen copy; None if there is neither."""
    lake = Lake(place)
    folder = lake.folder
    if folder is not None and (folder / FROZEN_MARKER).is_file() and (folder / FROZEN_EVENTS).is_file():
        return str(read_json(folder / FROZEN_MARKER)["identity"])
    with clear_errors(lake.name):
        events = lake.find(EVENTS)
    return None if events is None else identity_of(events)


def is_lake(place: Place) -> bool:
    """Return whether a path or URL is a lake or a frozen copy of one."""
    return _identity(place) is not None


def check_identity(place: Place, mapping: Mapping) -> None:
    """Check that a lake, or a frozen copy, has the mapping's kind of identity.

    Raises:
        SourceError: they differ, or there is no lake.
    """
    held = _identity(place) or Snapshot(place).identity
    require_same_identity(held, mapping.identity, f"mapping {mapping.name}", str(place))


def freeze_lake(place: Place, target: Path, until: datetime | None = None, version: int | None = None) -> None:
    """Copy a lake to a folder of sorted tables, one day at a time; the same lake always gives the same bytes.

    Args:
        place: The lake, a folder or an object-store URL.
        target: An existing empty folder.
        until: Copy only rows that were known before this time. Tables without a time are copied in full.
        version: Version of the lake; the newest by default.

    Raises:
        SourceError: there is no lake, it has no events before `until`, or one of its files cannot be read.
    """
    snapshot = Snapshot(place, version)
    seen = pl.Series("item_id", [], dtype=pl.String)
    with whole_file(target / FROZEN_EVENTS) as path:
        writer = GroupedWriter(path, EVENT_SCHEMA)
        for day in snapshot.each_day(until):
            writer.add(day)
            seen = pl.concat([seen, day["item_id"].drop_nulls()]).unique()
        writer.close()
        if not writer.rows:
            when = "" if until is None else f" before {until:%Y-%m-%d}"
            raise SourceError(
                f"data.source: the lake {snapshot.name} holds no event{when}; ingest some with `shoplens ingest`, or "
                f"correct data.as_of"
            )
    tables = {name: snapshot.side(name, until) for name in SIDE_SCHEMAS} | {"items": snapshot.items(seen, until)}
    tables[QUARANTINE] = snapshot.quarantine().drop("batch")
    for name, frame in tables.items():
        order = SIDE_KEYS.get(name, _QUARANTINE_ORDER)
        frame.sort(order, nulls_last=True).write_parquet(target / f"{name}.parquet")
    write_json(target / FROZEN_MARKER, {"identity": snapshot.identity})


def known_since(place: Place, moment: datetime) -> Iterator[pl.DataFrame]:
    """Yield the events that became known at or after a given time, one day at a time.

    Raises:
        SourceError: there is no lake, or one of its files cannot be read.
    """
    snapshot = Snapshot(place)
    files = snapshot.files()
    recent = files.filter((pl.col("max.event_time") >= moment) | (pl.col("max.ingested_at") >= moment))
    for day in sorted(recent["partition.day"].unique()):
        rows = snapshot.day(day)
        yield rows.filter((pl.col("event_time") >= moment) | (pl.col("ingested_at") >= moment))


def history_line(row: dict[str, Any]) -> str:
    """Format a batch of a lake's history as one line: version, batch, time, mapping and rows."""
    start = f"version {row['version']}: {row['batch']}, {row['committed_at']:%Y-%m-%d %H:%M:%S}, "
    if row["reverts"]:
        return f"{start}{row['mapping']} of {row['reverts']}"
    tables = json.loads(row["tables"]).values()
    rows_in, accepted = (sum(table[name] for table in tables) for name in ("rows_in", "accepted"))
    return f"{start}{row['mapping']}, {rows_in:,} rows, {accepted:,} accepted"


def lake_status(place: Place, since: int = 0) -> list[str]:
    """Return a report of a lake's size, its latest batches, and the days that got late events after version `since`.

    Raises:
        SourceError: there is no lake.
    """
    snapshot = Snapshot(place)
    with clear_errors(snapshot.name):
        sizes = [size for table in snapshot.lake.tables().values() for size in added_files(table)["size_bytes"]]
    days = snapshot.days()
    span = f", {days[0]} to {days[-1]}" if days else ""
    late = ", ".join(str(day) for day in snapshot.late_days(since)) or "none"
    return [
        f"{snapshot.name}: version {snapshot.version}, identity {snapshot.identity}",
        f"{snapshot.files()['num_records'].sum():,} events of {len(days):,} days{span}",
        f"{len(sizes):,} files, {sum(sizes):,} bytes; {snapshot.quarantine().height:,} rows in quarantine",
        *(history_line(row) for row in snapshot.history.tail(_LISTED).iter_rows(named=True)),
        f"late days since version {since}: {late}",
    ]
