"""The account of a reading: rows in = accepted + quarantined by reason + exact duplicates, for every table."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from shoplens.errors import SourceError


@dataclass(frozen=True)
class TableAccount:
    """What became of the rows of one table. A row with several reasons counts under its first."""

    rows_in: int
    accepted: int
    quarantined: dict[str, int] = field(default_factory=dict)
    exact_duplicates: int = 0

    def __post_init__(self) -> None:
        out = self.accepted + sum(self.quarantined.values()) + self.exact_duplicates
        if out != self.rows_in:
            raise SourceError(f"account: {self.rows_in} rows in but {out} accounted for: this is a bug, report it")

    def moved(self, count: int, reason: str | None) -> "TableAccount":
        """Return the account with `count` accepted rows moved to `reason`, or, for None, to the exact duplicates."""
        if reason is None:
            again = self.exact_duplicates + count
            return TableAccount(self.rows_in, self.accepted - count, self.quarantined, again)
        quarantined = dict(self.quarantined)
        if count:
            quarantined[reason] = quarantined.get(reason, 0) + count
        return TableAccount(self.rows_in, self.accepted - count, quarantined, self.exact_duplicates)

    def line(self, table: str) -> str:
        """Return the account as one line for a person."""
        set_aside = sum(self.quarantined.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.quarantined.items()))
        return (
            f"{table}: {self.rows_in:,} rows in = {self.accepted:,} accepted + {set_aside:,} quarantined"
            f"{f' ({reasons})' if reasons else ''} + {self.exact_duplicates:,} exact duplicates"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the account as plain values."""
        return asdict(self)


def count_reasons(quarantined: pl.DataFrame) -> dict[str, int]:
    """Count rows of QUARANTINE_SCHEMA by their first reason."""
    return dict(Counter(quarantined["reasons"].list.first().to_list()))
