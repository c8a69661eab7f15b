"""What a lake holds beside its events: items, users, campaigns, rows set aside, accounts."""

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import polars as pl

from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.duplicates import OTHER_CONTENT
from events.lake.manifest import File, Manifest
from events.lake.store import Store
from events.lake.tables import aligned, merged, read_file, row_groups, write_file
from events.transform.items import CONTENT_SCHEMA, merged_content

# name -> its schema, and the key of which it holds one row; sources add columns of their own
SIDES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "item_table": (ITEM_SCHEMA, ["item_id"]),
    "users": (USER_SCHEMA, ["user_id"]),
    "campaigns": (CAMPAIGN_SCHEMA, ["campaign_id", "user_id"]),
}
CONTENT = "item_content"
QUARANTINE = "quarantine"
ACCOUNTS = "accounts"
ACCOUNT_SCHEMA: dict[str, Any] = {
    "inputs": pl.String,
    "mapping": pl.String,
    "tables": pl.String,
    "late_days": pl.List(pl.String),
}
_KEYED: dict[str, Any] = QUARANTINE_SCHEMA | {"key": pl.Int64}


def held_side(store: Store, manifest: Manifest, name: str) -> pl.DataFrame:
    """Return one of SIDES, or the content that rode on events."""
    schema = CONTENT_SCHEMA if name == CONTENT else SIDES[name][0]
    file = manifest.sides.get(name)
    return pl.DataFrame(schema=schema) if file is None else read_file(store, file)


def _newest(held: pl.DataFrame, new: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Return one row a key, in every column the newest value that is known: an empty one wipes nothing."""
    both = pl.concat([held, new], how="diagonal_relaxed")
    merged_rows = both.group_by(key, maintain_order=True).agg(pl.exclude(key).drop_nulls().last())
    return merged_rows.select(both.columns)


def with_sides(
    store: Store, manifest: Manifest, new: dict[str, pl.DataFrame], content: pl.DataFrame
) -> dict[str, File]:
    """Return the side tables with new rows and new content of events in them; what does not change keeps its file."""
    sides = dict(manifest.sides)
    for name, rows in (*new.items(), (CONTENT, content)):
        held = held_side(store, manifest, name)
        both = merged_content(pl.concat([held, rows])) if name == CONTENT else _newest(held, rows, SIDES[name][1])
        if rows.height and not both.equals(held):
            sides[name] = write_file(store, "sides", both)
    return sides


def as_quarantine(clashing: pl.DataFrame) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA of events, with their `table`, whose id the lake holds with other content."""
    return clashing.select(
        "table",
        pl.lit(None, dtype=pl.Int64).alias("row"),
        pl.lit([OTHER_CONTENT], dtype=pl.List(pl.String)).alias("reasons"),
        pl.struct(list(EVENT_SCHEMA)).struct.json_encode().alias("raw"),
    )


def _keyed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with 64 bits of what each is known by: its table, its number and its content."""
    lines = rows.select(
        pl.concat_str("table", pl.col("row").cast(pl.String).fill_null(""), "raw", separator="\x1f")
    ).to_series()
    keys = [int.from_bytes(blake2b(line.encode(), digest_size=8).digest(), "little", signed=True) for line in lines]
    return rows.with_columns(pl.Series("key", keys, dtype=pl.Int64)).unique("key", keep="first", maintain_order=True)


def _without(store: Store, file: File, replayed: pl.DataFrame) -> list[File]:
    rows = read_file(store, file)
    left = rows.join(replayed, on=["table", "row"], how="anti", maintain_order="left")
    if left.height == rows.height:
        return [file]
    return [write_file(store, QUARANTINE, left)] if left.height else []


def with_quarantined(
    store: Store, files: tuple[File, ...], chunks: Iterable[pl.DataFrame], replayed: pl.DataFrame
) -> tuple[File, ...]:
    """Return the quarantine without the rows that were replayed, and with new ones that it does not hold yet."""
    if replayed.height:
        files = tuple(left for file in files for left in _without(store, file, replayed))
    for rows in chunks:
        fresh = _keyed(rows.select(list(QUARANTINE_SCHEMA)))
        for file in files if fresh.height else ():
            for group in row_groups(store, file, ["key"]):
                fresh = fresh.join(group, on="key", how="anti", maintain_order="left")
        files = (*files, write_file(store, QUARANTINE, fresh)) if fresh.height else files
    return files


def read_quarantine(store: Store, manifest: Manifest) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA of the lake."""
    frames = [aligned(read_file(store, file), QUARANTINE_SCHEMA) for file in manifest.quarantine]
    return pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *frames])


def find_account(store: Store, files: tuple[File, ...], inputs: str) -> dict[str, Any] | None:
    """Return the tables of the account of these inputs, or None where the files hold none."""
    for file in files:
        for group in row_groups(store, file, ["inputs", "tables"]):
            found = group.filter(pl.col("inputs") == inputs)
            if found.height:
                tables: dict[str, Any] = json.loads(found["tables"][0])
                return tables
    return None


def account_row(name: str, inputs: str, tables: dict[str, Any], late_days: list[str]) -> pl.DataFrame:
    """Return ACCOUNT_SCHEMA of one append."""
    text = json.dumps(tables, sort_keys=True, ensure_ascii=False)
    row = {"inputs": [inputs], "mapping": [name], "tables": [text], "late_days": [late_days]}
    return pl.DataFrame(row, schema=ACCOUNT_SCHEMA)


def with_account(
    store: Store, files: tuple[File, ...], name: str, inputs: str, tables: dict[str, Any], late_days: list[str]
) -> tuple[File, ...]:
    """Return the accounts with one more; the same inputs are accounted for once."""
    # A run that was killed after its change, and is run again, must not be accounted for twice.
    if inputs and find_account(store, files, inputs) is not None:
        return files
    return (*files, write_file(store, ACCOUNTS, account_row(name, inputs, tables, late_days)))


def read_accounts(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """Return what became of the rows of every append, in no order: mapping, inputs, tables, late_days."""
    frames = [aligned(read_file(store, file), ACCOUNT_SCHEMA) for file in manifest.accounts]
    rows = pl.concat([pl.DataFrame(schema=ACCOUNT_SCHEMA), *frames])
    return [row | {"tables": json.loads(row["tables"])} for row in rows.iter_rows(named=True)]


def tidied(store: Store, files: tuple[File, ...], folder: str) -> tuple[File, ...]:
    """Return the runs of the quarantine or of the accounts, those merged that are due."""
    return merged(store, files, folder, _KEYED if folder == QUARANTINE else ACCOUNT_SCHEMA)
