"""The lake: every accepted event, one Parquet file a day, with items, users, quarantine and accounts beside it.

    LAKE/lake.json                                  what kind of source it holds
    LAKE/events/event_date=2017-01-31/part.parquet
    LAKE/items.parquet  users.parquet  campaigns.parquet  quarantine.parquet  accounts.json

A day is rewritten whole, beside its place, and renamed: a crash leaves the old day or the new one. Reading a file again
changes nothing: events are known by their id.
"""

from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.ingest import Ingested, move_to_duplicates
from events.mapping import Mapping
from shoplens.errors import SourceError
from shoplens.files import read_json, whole_file, write_json

_MARKER = "lake.json"
_SIDES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "items": (ITEM_SCHEMA, ["item_id"]),
    "users": (USER_SCHEMA, ["user_id"]),
    "campaigns": (CAMPAIGN_SCHEMA, ["campaign_id", "user_id"]),
    "quarantine": (QUARANTINE_SCHEMA, ["table", "row", "raw"]),
}


def is_lake(folder: Path) -> bool:
    """Say whether `folder` is a lake."""
    return (folder / _MARKER).is_file()


def open_lake(folder: Path, mapping: Mapping) -> None:
    """Make the lake if it is new.

    Raises:
        SourceError: it holds another kind of identity, or the folder holds something else.
    """
    if not is_lake(folder):
        if folder.exists() and any(folder.iterdir()):
            raise SourceError(f"--lake: must be a lake, a new or an empty folder; {folder} holds other things")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _MARKER, {"identity": mapping.identity})
    held = read_json(folder / _MARKER)["identity"]
    if held != mapping.identity:
        raise SourceError(
            f"--lake: {folder} holds events whose identity is {held!r}; mapping {mapping.name} has "
            f"{mapping.identity!r}: give it a lake of its own"
        )


def _split_known(day: pl.DataFrame, held: pl.DataFrame) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Return new events, ids that the day holds already with the same content, and ids with another content."""
    content = pl.struct([name for name in EVENT_SCHEMA if name not in ("ingested_at", "session_id")]).hash(seed=0)
    old = held.select("event_id", content.alias("_old"))
    both = day.with_columns(content.alias("_new")).join(old, on="event_id", how="inner")
    same = both["_new"] == both["_old"]
    known = both["event_id"]
    return (
        day.filter(~pl.col("event_id").is_in(known.implode())),
        known.filter(same).to_list(),
        known.filter(~same).to_list(),
    )


def _write_day(folder: Path, date: str, day: pl.DataFrame) -> tuple[list[str], list[str]]:
    path = folder / "events" / f"event_date={date}" / "part.parquet"
    again: list[str] = []
    clash: list[str] = []
    if path.exists():
        held = pl.read_parquet(path)
        new, again, clash = _split_known(day, held)
        if new.is_empty():
            return again, clash
        day = pl.concat([held, new])
    with whole_file(path) as work:
        day.sort("event_time", "event_id").write_parquet(work)
    return again, clash


def _merge_side(folder: Path, name: str, new: pl.DataFrame) -> None:
    """Keep one row a key, the newest given; a row of which nothing is new changes nothing."""
    path = folder / f"{name}.parquet"
    key = _SIDES[name][1]
    frame = pl.concat([pl.read_parquet(path), new], how="diagonal_relaxed") if path.exists() else new
    with whole_file(path) as work:
        frame.unique(key, keep="last", maintain_order=True).write_parquet(work)


def append(folder: Path, mapping: Mapping, done: Ingested) -> dict[str, TableAccount]:
    """Add what was read to the lake; return the accounts, with events that it holds already as exact duplicates.

    Raises:
        SourceError: see `open_lake`.
    """
    open_lake(folder, mapping)
    again: list[str] = []
    clash: list[str] = []
    dated = done.events.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias("_date"))
    for (date,), day in dated.partition_by("_date", as_dict=True).items():
        more, other = _write_day(folder, str(date), day.drop("_date"))
        again += more
        clash += other
    accounts = move_to_duplicates(done.accounts, done.origin.filter(pl.col("event_id").is_in(again))["table"])
    accounts, clashing = _set_aside(accounts, done, clash)
    for name, frame in (("items", done.items), ("users", done.users), ("campaigns", done.campaigns)):
        _merge_side(folder, name, frame)
    _merge_side(folder, "quarantine", pl.concat([done.quarantined, clashing]))
    path = folder / "accounts.json"
    kept = read_json(path) if path.exists() else []
    kept.append({"mapping": mapping.name, "tables": {table: a.as_json() for table, a in accounts.items()}})
    write_json(path, kept)
    return accounts


def _set_aside(
    accounts: dict[str, TableAccount], done: Ingested, clash: list[str]
) -> tuple[dict[str, TableAccount], pl.DataFrame]:
    """Move events whose id the lake holds with other content from accepted to quarantine."""
    reason = "event_id_with_other_content"
    rows = done.events.filter(pl.col("event_id").is_in(clash)).join(done.origin, on="event_id", how="left")
    frame = rows.select(
        "table",
        pl.lit(None, dtype=pl.Int64).alias("row"),
        pl.lit([reason], dtype=pl.List(pl.String)).alias("reasons"),
        pl.struct(list(EVENT_SCHEMA)).struct.json_encode().alias("raw"),
    )
    moved = dict(accounts)
    for table, count in rows["table"].value_counts().iter_rows():
        old = moved[table]
        quarantined = {**old.quarantined, reason: old.quarantined.get(reason, 0) + count}
        moved[table] = TableAccount(old.rows_in, old.accepted - count, quarantined, old.exact_duplicates)
    return moved, frame


def freeze_lake(folder: Path, target: Path) -> None:
    """Copy a lake into one folder of whole tables, sorted: what the stages read."""
    days = sorted((folder / "events").glob("event_date=*/part.parquet"))
    if not days:
        raise SourceError(f"data.source: the lake {folder} holds no event; bring some in with `shoplens ingest`")
    events = pl.concat([pl.read_parquet(day) for day in days]).sort("event_time", "event_id")
    events.write_parquet(target / "events.parquet")
    for name, (schema, key) in _SIDES.items():
        path = folder / f"{name}.parquet"
        frame = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=schema)
        frame.sort(key, nulls_last=True).write_parquet(target / f"{name}.parquet")
    write_json(target / _MARKER, read_json(folder / _MARKER))


def read_frozen(folder: Path) -> Ingested:
    """Read what `freeze_lake` wrote."""
    tables = {name: pl.read_parquet(folder / f"{name}.parquet") for name in ("events", *_SIDES)}
    events, quarantined = tables["events"], tables["quarantine"]
    account = TableAccount(events.height + quarantined.height, events.height, count_reasons(quarantined), 0)
    origin = events.select("event_id", pl.lit("lake").alias("table"))
    return Ingested(
        events, tables["items"], tables["users"], tables["campaigns"], quarantined, {"lake": account}, origin
    )
