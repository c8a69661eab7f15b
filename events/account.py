"""The account of a reading: rows in = accepted + quarantined by reason + exact duplicates, for every table."""

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
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
        accepted = self.accepted - count
        if reason is None:
            return replace(self, accepted=accepted, exact_duplicates=self.exact_duplicates + count)
        return replace(self, accepted=accepted, quarantined=dict(Counter(self.quarantined) + Counter({reason: count})))

    def line(self, table: str) -> str:
        """Return the account as one line for a person."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.quarantined.items()))
        return (
            f"{table}: {self.rows_in:,} rows in = {self.accepted:,} accepted + {sum(self.quarantined.values()):,} "
            f"quarantined{f' ({reasons})' if reasons else ''} + {self.exact_duplicates:,} exact duplicates"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the account as plain values."""
        return asdict(self)


def count_reasons(quarantined: pl.DataFrame) -> dict[str, int]:
    """Count rows of QUARANTINE_SCHEMA by their first reason."""
    return dict(Counter(quarantined["reasons"].list.first().to_list()))
