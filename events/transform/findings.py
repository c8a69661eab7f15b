"""What is worth a line for a person about a table that was read: nobody identified, IDs that cannot be one person, money
that is unknown, addresses that no record has.
"""

from collections import Counter

import polars as pl

from events.sources.records import Rows, nearest_address

_SHARE = 0.1  # of the rows: more are not one person's, if it also has _TIMES as many as others
_TIMES = 5
_KEPT = 100  # IDs per piece: one with a tenth of the rows is among the most frequent of a piece


class Findings:
    """Counts of one table, collected piece by piece."""

    def __init__(self) -> None:
        self._rows = self._identified = 0
        self._ids: Counter[str] = Counter()
        self._people = 0
        self._money: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._absent: set[str] | None = None
        self._addresses: set[str] = set()

    def add(self, events: pl.DataFrame, rows: Rows) -> None:
        """Count accepted events of a piece, and the addresses that its records lack."""
        self._rows += events.height
        counts = events["user_id"].drop_nulls().value_counts(sort=True)
        self._identified += int(counts["count"].sum())
        self._people = max(self._people, counts.height)
        self._ids.update(dict(counts.head(_KEPT).iter_rows()))
        money = events.filter(pl.col("event_name").is_in(["purchase", "refund"]))
        for name, total, unknown in (
            money.group_by("event_name").agg(pl.len(), pl.col("amount").null_count().alias("unknown")).iter_rows()
        ):
            self._money[name] += total
            self._unknown[name] += unknown
        self._absent = set(rows.absent) if self._absent is None else self._absent & rows.absent
        self._addresses |= rows.addresses

    def messages(self) -> list[str]:
        """Return one line per finding."""
        found = []
        if self._rows and not self._identified:
            found.append(
                "no event has a user_id, so nobody is identified and there is nothing to learn about people: map user_id, "
                "or set `person: [user_id, anonymous_id]` where the anonymous ID identifies a person"
            )
        for name, rows in self._ids.most_common(3):
            others = (self._identified - rows) / max(self._people - 1, 1)
            if self._people > 1 and rows >= _SHARE * self._identified and rows > _TIMES * others:
                share = rows / self._identified
                found.append(
                    f"user_id {name!r} has {rows:,} rows, {share:.0%} of all: if it stands for nobody, add it to `nobody`"
                )
        for name, total in sorted(self._money.items()):
            if self._unknown[name]:
                found.append(
                    f"{self._unknown[name]:,} of {total:,} {name} events ({self._unknown[name] / total:.0%}) have no amount: "
                    f"map amount, or price (and quantity)"
                )
        for address in sorted(self._absent or ()):
            nearest = nearest_address(address, self._addresses)
            found.append(f"no record has {address}" + (f"; the nearest is {nearest}" if nearest else ""))
        return found
