"""A whole source in memory, read as production reads it, and appended to a lake."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount
from events.contract import EVENT_SCHEMA, ITEM_SCHEMA, PROMOTION_SCHEMA, QUARANTINE_SCHEMA, STOCK_SCHEMA
from events.lake import Place, Snapshot
from events.lake.commit import Incoming, append_incoming
from events.lake.table import ACCOUNT_SCHEMA, CONTENT, created
from events.mapping import Mapping
from events.reading import Reading, inputs_digest
from events.sources.files import Size, find_files
from events.transform.side_tables import CONTENT_SCHEMA, every_item


@dataclass(frozen=True)
class Ingested:
    """What a reading gives: its tables, accounts by label, and the `table` (a label) of each event in `origin`."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    campaigns: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]
    origin: pl.DataFrame
    item_table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ITEM_SCHEMA))
    item_content: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CONTENT_SCHEMA))
    unread: tuple[str, ...] = ()
    promotions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROMOTION_SCHEMA))
    stock: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=STOCK_SCHEMA))
    digest: str = ""

    def labelled(self) -> pl.DataFrame:
        """Return the events with their tables."""
        return self.events.join(self.origin, on="event_id", how="left", maintain_order="left")


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
            promotions=reading.sides["promotions"],
            stock=reading.sides["stock"],
            digest=inputs_digest(mapping, find_files(inputs)),
        )


def append(
    place: Place,
    mapping: Mapping,
    done: Ingested,
    sources: dict[str, Any] | None = None,
    chunks: Callable[[], Iterable[pl.DataFrame]] | None = None,
) -> dict[str, TableAccount]:
    """Append what was read to a lake; return the accounts, in which events that the lake holds are duplicates."""
    incoming = Incoming(
        mapping=mapping.name,
        inputs=done.digest,
        accounts=done.accounts,
        events=chunks or (lambda: [done.labelled()]),
        quarantined=lambda: [done.quarantined],
        sides={
            "items": done.item_table,
            "users": done.users,
            "campaigns": done.campaigns,
            "promotions": done.promotions,
            "stock": done.stock,
            CONTENT: done.item_content,
        },
        sources=sources or {},
    )
    account, fresh = append_incoming(created(place, mapping.identity, f"mapping {mapping.name}"), incoming, mapping)
    return account.table_accounts(again=not fresh)


def lake_accounts(place: Place) -> list[dict[str, Any]]:
    """Return what became of the rows of each batch, in the order of their commits: the columns of ACCOUNT_SCHEMA."""
    rows = Snapshot(place).accounts.select("batch", *ACCOUNT_SCHEMA).iter_rows(named=True)
    return [row | {"tables": json.loads(row["tables"])} for row in rows]
