"""The account of a table's rows: rows in = accepted + quarantined by reason + exact duplicates."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from events.contract import QUARANTINE_SCHEMA
from events.sources.files import MALFORMED
from shoplens.errors import SourceError

Faults = list[tuple[str, pl.Series]]  # a reason, and the rows to which it applies
_ALIKE = 0.55  # of the letters: orderNumber for orderId
_SHARE = 0.1  # of the rows: more are not one person's, if it also has _TIMES as many as others
_TIMES = 5
_KEPT = 100  # IDs per piece: one with a tenth of the rows is among the most frequent of a piece


@dataclass(frozen=True)
class TableAccount:
    """The account of one table. A row with several reasons counts under the first."""

    rows_in: int
    accepted: int
    quarantined: dict[str, int] = field(default_factory=dict)
    exact_duplicates: int = 0

    def __post_init__(self) -> None:
        out = self.accepted + sum(self.quarantined.values()) + self.exact_duplicates
        if out != self.rows_in:
            raise SourceError(f"account: {self.rows_in} rows in but {out} accounted for: this is a bug, report it")

    def moved(self, count: int, reason: str | None) -> "TableAccount":
        """Return the account with `count` accepted rows moved to `reason`, or to the exact duplicates if it is None."""
        accepted = self.accepted - count
        if reason is None:
            return replace(self, accepted=accepted, exact_duplicates=self.exact_duplicates + count)
        return replace(self, accepted=accepted, quarantined=dict(Counter(self.quarantined) + Counter({reason: count})))

    def line(self, table: str) -> str:
        """Return the account as one human-readable line."""
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


def faulty(rows: int, faults: Faults) -> tuple[pl.Series, pl.Series]:
    """Return a mask of the rows that have a fault, and the lists of reasons of those rows only."""
    found = [(reason, which.fill_null(value=False)) for reason, which in faults if which.any()]
    bad = pl.repeat(value=False, n=rows, eager=True)
    for _, which in found:
        bad |= which
    # Nearly all rows are valid: building a list of reasons for each would cost more than all other work on the row.
    marks = [pl.when(which.filter(bad)).then(pl.lit(reason)) for reason, which in found]
    if not marks:
        return bad, pl.Series([], dtype=pl.List(pl.String))
    return bad, pl.select(pl.concat_list(marks).list.drop_nulls()).to_series()


def quarantine(raw: pl.DataFrame, numbers: pl.Series, reasons: pl.Series, table: str) -> pl.DataFrame:
    """Return raw rows as QUARANTINE_SCHEMA: JSON, row numbers (from 0) and reasons.

    A malformed row has the one reason and the text of its line, see `events.sources.files.malformed`.
    """
    if raw.is_empty():
        return pl.DataFrame(schema=QUARANTINE_SCHEMA)
    row = pl.struct(pl.all().exclude(MALFORMED)).struct.json_encode()
    done = pl.DataFrame([numbers.cast(pl.Int64).alias("row"), reasons.alias("reasons")]).with_columns(
        pl.lit(table).alias("table"), raw.select(row.alias("raw")).to_series()
    )
    if MALFORMED in raw.columns:
        kept = raw.select(pl.col(MALFORMED).str.splitn(" ", 2).struct.rename_fields(["reason", "text"]).struct.unnest())
        is_malformed = pl.lit(kept["reason"].is_not_null())
        done = done.with_columns(
            pl.when(is_malformed).then(pl.concat_list(pl.lit(kept["reason"]))).otherwise("reasons").alias("reasons"),
            pl.when(is_malformed).then(pl.lit(kept["text"])).otherwise("raw").alias("raw"),
        )
    return done.select(pl.col(name).cast(kind) for name, kind in QUARANTINE_SCHEMA.items())


def nearest_address(address: str, unread: Iterable[str]) -> str | None:
    """Return the unread address whose last part is spelled most like that of the given address."""

    def last_part(one: str) -> str:
        return re.sub("[^a-z0-9]", "", re.split(r"[.\[]", one)[-1].lower())

    near = [one for one in sorted(unread) if not address.startswith(f"{one}.")]
    found = {one: difflib.SequenceMatcher(None, last_part(address), last_part(one)).ratio() for one in near}
    # Break ties by proximity in the record.
    best = max(found, key=lambda one: (found[one], difflib.SequenceMatcher(None, address, one).ratio()), default=None)
    return best if best is not None and found[best] >= _ALIKE else None


class Findings:
    """Findings about a table, counted piece by piece: unidentified people, unknown amounts, absent fields."""

    def __init__(self) -> None:
        self._rows = self._identified = self._people = 0
        self._ids: Counter[str] = Counter()
        self._money: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._absent: frozenset[str] | None = None
        self._unread: frozenset[str] = frozenset()

    def add(self, events: pl.DataFrame, absent: frozenset[str], unread: frozenset[str]) -> None:
        """Count accepted events of a piece; `absent` and `unread` are those of `events.transform.records.Rows`."""
        self._rows += events.height
        counts = events["user_id"].drop_nulls().value_counts(sort=True)
        self._identified += int(counts["count"].sum())
        self._people = max(self._people, counts.height)
        self._ids.update(dict(counts.head(_KEPT).iter_rows()))
        money = events.filter(pl.col("event_name").is_in(["purchase", "refund"]))
        self._money.update(money["event_name"].to_list())
        self._unknown.update(money.filter(pl.col("amount").is_null())["event_name"].to_list())
        self._absent = absent if self._absent is None else self._absent & absent
        self._unread |= unread

    def messages(self) -> list[str]:
        """Return one line per finding."""
        found = []
        if self._rows and not self._identified:
            advice = "set `person: [user_id, anonymous_id]` where the anonymous ID identifies a person"
            found.append(f"no event has a user_id, so nobody is identified; map user_id, or {advice}")
        for name, rows in self._ids.most_common(3) if self._people > 1 else ():
            others = (self._identified - rows) / (self._people - 1)
            if rows >= _SHARE * self._identified and rows > _TIMES * others:
                share = f"{rows:,} rows, {rows / self._identified:.0%} of all"
                found.append(f"user_id {name!r} has {share}: if it is not a person, add it to `nobody`")
        for name, unknown in sorted(self._unknown.items()):
            share = f"{unknown:,} of {self._money[name]:,} {name} events ({unknown / self._money[name]:.0%})"
            found.append(f"{share} have no amount: map amount, or price and quantity")
        nearest = {address: nearest_address(address, self._unread) for address in sorted(self._absent or ())}
        found += [f"no record has {address}; the nearest is {near}" for address, near in nearest.items() if near]
        others_absent = ", ".join(address for address, near in nearest.items() if not near)
        return [*found, f"no record has {others_absent}"] if others_absent else found
