"""What a reading hands to a lake."""

from dataclasses import dataclass, field

import polars as pl

from events.account import TableAccount
from events.contract import ITEM_SCHEMA, PROMOTION_SCHEMA, STOCK_SCHEMA
from events.transform.items import CONTENT_SCHEMA

REPLAYED_SCHEMA = {"batch": pl.String(), "table": pl.String(), "row": pl.Int64()}


@dataclass(frozen=True)
class Ingested:
    """A source, to the contract.

    Attributes:
        events: EVENT_SCHEMA, sorted by event_time and event_id.
        items: Every item: those of the items table, then those only seen in events.
        users: USER_SCHEMA and the source's own columns.
        campaigns: CAMPAIGN_SCHEMA and the source's own columns.
        quarantined: QUARANTINE_SCHEMA.
        accounts: By label of a file, see `events.sources.files.Labels`.
        origin: event_id and table (a label) of every accepted event.
        item_table: The rows of `items` that the items table gave.
        item_content: What rode on events, see `events.transform.items`.
        unread: Files of given folders that no table of the mapping reads.
        promotions: PROMOTION_SCHEMA.
        stock: STOCK_SCHEMA.
        digest: Of the mapping and the files: the same again is the same digest.
        replayed: batch, table and row of quarantined rows of a lake that this reading stands for.
    """

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
    digest: str = ""
    replayed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REPLAYED_SCHEMA))
    promotions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROMOTION_SCHEMA))
    stock: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=STOCK_SCHEMA))
