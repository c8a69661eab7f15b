"""The lake: every accepted event, one Parquet file a day, with items, users, quarantine and accounts beside it.

    LAKE/lake.json                                  what kind of source it holds
    LAKE/events/event_date=2017-01-31/part.parquet
    LAKE/items.parquet                              every item, out of the two below
    LAKE/item_table.parquet  item_content.parquet   what items tables gave, what rode on events
    LAKE/users.parquet  campaigns.parquet  quarantine.parquet  accounts.json

An append changes all of these or none (`events.commit`). Reading a file again changes nothing: events are known by
their id, and the account of the same files through the same mapping is kept once.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.commit import is_ours, locked, whole_change
from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.duplicates import OTHER_CONTENT, distinct
from events.ingest import Ingested
from events.items import CONTENT_SCHEMA, every_item, first_content
from events.known import known_events
from events.mapping import Mapping
from events.readers import first_line, read_table
from shoplens.errors import SourceError
from shoplens.files import read_json, write_json

_MARKER = "lake.json"
LIVE = "live"  # what batches of events that came one by one are called in the account
_SIDES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "items": (ITEM_SCHEMA, ["item_id"]),
    "users": (USER_SCHEMA, ["user_id"]),
    "campaigns": (CAMPAIGN_SCHEMA, ["campaign_id", "user_id"]),
    "quarantine": (QUARANTINE_SCHEMA, ["table", "row", "raw"]),
}


def is_lake(folder: Path) -> bool:
    """Say whether `folder` is a lake."""
    return (folder / _MARKER).is_file()


def check_identity(folder: Path, mapping: Mapping) -> None:
    """Hold the kind of identity of a lake, or of a frozen copy of one, against the mapping's.

    Raises:
        SourceError: they differ, or the lake's cannot be read.
    """
    _check(folder, mapping.identity, f"mapping {mapping.name}")


def _check(folder: Path, identity: str, whose: str) -> None:
    held = _read_json(folder / _MARKER, dict).get("identity")
    if held != identity:
        raise SourceError(
            f"lake: {folder} holds events whose identity is {held!r}; {whose} has {identity!r}: "
            f"give it a lake of its own"
        )


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: must be JSON; {first_line(error)}. Restore it, or make a new lake") from error
    if not isinstance(content, kind):
        raise SourceError(f"{path}: must hold a JSON {kind.__name__}; received {str(content)[:80]!r}. Restore it")
    return content


def _check_place(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"--lake: must be a lake, a new or an empty folder; {folder} is a file. Name another place")
    if folder.exists() and not is_lake(folder) and not all(is_ours(path.name) for path in folder.iterdir()):
        raise SourceError(
            f"--lake: must be a lake, a new or an empty folder; {folder} holds other things. Name another place"
        )


def open_lake(folder: Path, mapping: Mapping) -> None:
    """Make the lake if it is new.

    Raises:
        SourceError: it holds another kind of identity, or the place is a file or holds something else.
    """
    _open(folder, mapping.identity, f"mapping {mapping.name}")


def _open(folder: Path, identity: str, whose: str) -> None:
    _check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"--lake: {folder} cannot be made: {error.strerror}. Name another place") from error
    with locked(folder):
        if not is_lake(folder):
            write_json(folder / _MARKER, {"identity": identity})
        _check(folder, identity, whose)


def _day_path(date: str) -> Path:
    return Path("events") / f"event_date={date}" / "part.parquet"


def _held_side(folder: Path, name: str, schema: dict[str, Any]) -> pl.DataFrame:
    path = folder / f"{name}.parquet"
    return read_table(path) if path.exists() else pl.DataFrame(schema=schema)


def _held_item_table(folder: Path) -> pl.DataFrame:
    # A lake of before there were two files has all it knows of items in the one.
    name = "item_table" if (folder / "item_table.parquet").exists() else "items"
    return _held_side(folder, name, ITEM_SCHEMA)


def _newest(held: pl.DataFrame, new: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Return one row a key, in every column the newest value that is known: an empty one wipes nothing."""
    both = pl.concat([held, new], how="diagonal_relaxed")
    merged = both.group_by(key, maintain_order=True).agg(pl.exclude(key).drop_nulls().last())
    return merged.select(both.columns)


def _write_days(folder: Path, work: Path, new: pl.DataFrame) -> None:
    dated = new.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias("_date"))
    for (date,), rows in dated.partition_by("_date", as_dict=True).items():
        place = _day_path(str(date))
        held = [read_table(folder / place)] if (folder / place).exists() else []
        (work / place).parent.mkdir(parents=True)
        day = pl.concat([*held, rows.drop("_date")])
        day.sort("event_time", "event_id").write_parquet(work / place)


def _write_sides(folder: Path, work: Path, done: Ingested, clashing: pl.DataFrame) -> None:
    table = _newest(_held_item_table(folder), done.item_table, ["item_id"])
    # Nothing of an event that is set aside is believed.
    fresh = done.item_content.join(clashing.select("event_id"), on="event_id", how="anti")
    content = first_content(pl.concat([_held_side(folder, "item_content", CONTENT_SCHEMA), fresh]))
    seen = pl.concat([_held_side(folder, "items", ITEM_SCHEMA)["item_id"], done.items["item_id"]])
    sides = {"item_table": table, "item_content": content, "items": every_item(table, content, seen)}
    for name, rows in (("users", done.users), ("campaigns", done.campaigns)):
        schema, key = _SIDES[name]
        sides[name] = _newest(_held_side(folder, name, schema), rows, key)
    held = _held_side(folder, "quarantine", QUARANTINE_SCHEMA)
    held = held.join(done.replayed, on=["table", "row"], how="anti", maintain_order="left")
    aside = pl.concat([held, done.quarantined, _as_quarantine(clashing)])
    sides["quarantine"] = aside.unique(_SIDES["quarantine"][1], keep="first", maintain_order=True)
    for name, frame in sides.items():
        frame.write_parquet(work / f"{name}.parquet")


def _as_quarantine(clashing: pl.DataFrame) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA of events, with their `table`, whose id the lake holds with other content."""
    return clashing.select(
        "table",
        pl.lit(None, dtype=pl.Int64).alias("row"),
        pl.lit([OTHER_CONTENT], dtype=pl.List(pl.String)).alias("reasons"),
        pl.struct(list(EVENT_SCHEMA)).struct.json_encode().alias("raw"),
    )


def _write_accounts(folder: Path, work: Path, done: Ingested, name: str, tables: dict[str, Any]) -> None:
    path = folder / "accounts.json"
    kept = _read_json(path, list) if path.exists() else []
    # A run that was killed after its change, and is run again, must not be accounted for twice.
    if not done.digest or all(entry.get("inputs") != done.digest for entry in kept):
        kept = [*kept, {"mapping": name, "inputs": done.digest, "tables": tables}]
    text = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (work / "accounts.json").write_text(text, encoding="utf-8")


def _count(accounts: dict[str, TableAccount], rows: pl.Series, reason: str | None) -> dict[str, TableAccount]:
    counts = dict(rows.value_counts().iter_rows())
    return {table: account.moved(counts.get(table, 0), reason) for table, account in accounts.items()}


def append(folder: Path, mapping: Mapping, done: Ingested) -> dict[str, TableAccount]:
    """Add what was read to the lake, all or nothing; return the accounts, with events that it holds as duplicates.

    Raises:
        SourceError: see `open_lake`; or a file of the lake cannot be read.
    """
    open_lake(folder, mapping)
    given_ids = any("event_id" in spec.columns for spec in mapping.events)
    return _change(folder, mapping.name, done, everywhere=given_ids)


def append_events(
    lake: Path, identity: str, events: pl.DataFrame, quarantined: pl.DataFrame, batch_id: str
) -> TableAccount:
    """Add a batch of events that came one by one, all or nothing; return its account.

    Args:
        lake: The lake; made if it is new.
        identity: `user` or `session`, as in a mapping.
        events: EVENT_SCHEMA, in the order in which they came; of several with one id the first counts.
        quarantined: QUARANTINE_SCHEMA, what was set aside before.
        batch_id: Names the batch, once and for ever: a batch that the lake holds changes nothing, whatever is in it.

    Returns:
        rows_in = events and quarantined; accepted, quarantined by reason (clashes of ids among them), exact
        duplicates. For a batch that the lake holds, the account of then.

    Raises:
        SourceError: see `open_lake`; or a file of the lake cannot be read.
    """
    _open(lake, identity, f"batch {batch_id}")
    with locked(lake):
        path = lake / "accounts.json"
        kept = _read_json(path, list) if path.exists() else []
    for entry in kept:
        if entry.get("inputs") == batch_id:
            return TableAccount(**entry["tables"][LIVE])
    return _change(lake, LIVE, _batch(events, quarantined, batch_id), everywhere=True)[LIVE]


def _batch(events: pl.DataFrame, quarantined: pl.DataFrame, batch_id: str) -> Ingested:
    numbered = events.select(pl.lit(0, dtype=pl.Int32).alias("_part"), *EVENT_SCHEMA).with_row_index("_row")
    settled = distinct(numbered)
    again = numbered.join(settled.clashes, on=["_part", "_row"], how="semi").with_columns(pl.lit(LIVE).alias("table"))
    aside = pl.concat([quarantined.select(list(QUARANTINE_SCHEMA)), _as_quarantine(again)])
    kept = settled.events.select(list(EVENT_SCHEMA)).sort("event_time", "event_id")
    rows_in = events.height + quarantined.height
    account = TableAccount(rows_in, kept.height, count_reasons(aside), settled.repeated.len())
    return Ingested(
        events=kept,
        items=every_item(pl.DataFrame(schema=ITEM_SCHEMA), pl.DataFrame(schema=CONTENT_SCHEMA), kept["item_id"]),
        users=pl.DataFrame(schema=USER_SCHEMA),
        campaigns=pl.DataFrame(schema=CAMPAIGN_SCHEMA),
        quarantined=aside,
        accounts={LIVE: account},
        origin=kept.select("event_id", pl.lit(LIVE).alias("table")),
        digest=batch_id,
    )


def _change(folder: Path, name: str, done: Ingested, *, everywhere: bool) -> dict[str, TableAccount]:
    with locked(folder):
        known = known_events(folder, done.events, everywhere=everywhere)
        origin = known.join(done.origin, on="event_id", how="left", maintain_order="left")
        accounts = _count(done.accounts, origin.filter("same")["table"], None)
        accounts = _count(accounts, origin.filter(~pl.col("same"))["table"], OTHER_CONTENT)
        clashing = done.events.join(origin.filter(~pl.col("same")), on="event_id", how="inner", maintain_order="left")
        new = done.events.join(known, on="event_id", how="anti", maintain_order="left")
        with whole_change(folder) as work:
            _write_days(folder, work, new)
            _write_sides(folder, work, done, clashing)
            _write_accounts(folder, work, done, name, {table: a.as_json() for table, a in accounts.items()})
    return accounts


def _known_at(frame: pl.DataFrame, until: datetime | None) -> pl.DataFrame:
    if until is None:
        return frame
    return frame.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))


def freeze_lake(folder: Path, target: Path, until: datetime | None = None) -> None:
    """Copy a lake into one folder of whole tables, sorted: what the stages read.

    Args:
        folder: The lake.
        target: An existing empty folder.
        until: Copy only what was known before this moment; quarantine and side tables carry no time and go whole.

    Raises:
        SourceError: the lake holds no event (of that time), or one of its files cannot be read.
    """
    with locked(folder):
        days = sorted((folder / "events").glob("event_date=*/part.parquet"))
        frames = [_known_at(read_table(day), until) for day in days]
        sides = {name: _held_side(folder, name, schema) for name, (schema, _) in _SIDES.items()}
        table = _held_item_table(folder)
        content = _held_side(folder, "item_content", CONTENT_SCHEMA)
    events = pl.concat(frames) if frames else pl.DataFrame(schema=EVENT_SCHEMA)
    if events.is_empty():
        when = "" if until is None else f" before {until:%Y-%m-%d}"
        raise SourceError(
            f"data.source: the lake {folder} holds no event{when}; bring some in with `shoplens ingest`, or correct "
            f"data.as_of"
        )
    events.sort("event_time", "event_id").write_parquet(target / "events.parquet")
    seen = events["item_id"] if until is not None else pl.concat([sides["items"]["item_id"], events["item_id"]])
    sides["items"] = every_item(table, _known_at(content, until), seen)
    for name, frame in sides.items():
        frame.sort(_SIDES[name][1], nulls_last=True).write_parquet(target / f"{name}.parquet")
    write_json(target / _MARKER, _read_json(folder / _MARKER, dict))


def read_frozen(folder: Path) -> Ingested:
    """Read what `freeze_lake` wrote."""
    tables = {name: read_table(folder / f"{name}.parquet") for name in ("events", *_SIDES)}
    events, quarantined = tables["events"], tables["quarantine"]
    account = TableAccount(events.height + quarantined.height, events.height, count_reasons(quarantined), 0)
    origin = events.select("event_id", pl.lit("lake").alias("table"))
    return Ingested(
        events, tables["items"], tables["users"], tables["campaigns"], quarantined, {"lake": account}, origin
    )
