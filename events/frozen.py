"""A frozen lake, read a piece at a time: its events are in order already."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import EVENT_SCHEMA
from events.lake.snapshot import FROZEN_EVENTS
from events.pieces import Size, pieces
from events.readers import read_table


class Frozen:
    """What `events.lake.freeze_lake` wrote, with the attributes and methods of `events.bounded.Reading`."""

    unread: tuple[str, ...] = ()

    def __init__(self, folder: Path, size: Size | None) -> None:
        """Read the side tables.

        Raises:
            SourceError: a table cannot be read.
        """
        self._folder, self._size = folder, size
        self.users, self.campaigns = (read_table(folder / f"{name}.parquet") for name in ("users", "campaigns"))
        self._accepted = 0

    def events(self, until: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Yield EVENT_SCHEMA, sorted by event_time and event_id, in frames that follow each other."""
        for piece in pieces(self._folder / FROZEN_EVENTS, size=self._size):
            self._accepted += piece.frame.height
            yield piece.frame.select(list(EVENT_SCHEMA))

    def items(self, seen: pl.Series) -> pl.DataFrame:
        """Return the items that were seen, with the content that is known of them."""
        return read_table(self._folder / "items.parquet").filter(pl.col("item_id").is_in(seen.implode()))

    def accounts(self) -> dict[str, TableAccount]:
        """Return the account of the lake, when `events` has ended."""
        reasons: Counter[str] = Counter()
        for rows in self.quarantined():
            reasons.update(count_reasons(rows))
        return {"lake": TableAccount(self._accepted + reasons.total(), self._accepted, dict(reasons))}

    def quarantined(self) -> Iterator[pl.DataFrame]:
        """Yield QUARANTINE_SCHEMA of every row that was set aside."""
        for piece in pieces(self._folder / "quarantine.parquet", size=self._size):
            yield piece.frame
