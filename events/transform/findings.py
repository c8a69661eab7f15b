"""Findings about a table that was read, such as people who are not identified, or money that is unknown."""

from collections import Counter

import polars as pl

from events.transform.records import Rows, nearest_address

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
        self._unread: set[str] = set()

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
        self._unread |= rows.unread

    def messages(self) -> list[str]:
        """Return one line per finding."""
        money = [
            f"{unknown:,} of {self._money[name]:,} {name} events ({unknown / self._money[name]:.0%}) have no amount: "
            f"map amount, or price and quantity"
            for name, unknown in sorted(self._unknown.items())
            if unknown
        ]
        nearest = {address: nearest_address(address, self._unread) for address in sorted(self._absent or ())}
        misspelled = [f"no record has {address}; the nearest is {near}" for address, near in nearest.items() if near]
        others = ", ".join(address for address, near in nearest.items() if not near)
        return [*self._people_messages(), *money, *misspelled, *([f"no record has {others}"] if others else [])]

    def _people_messages(self) -> list[str]:
        if self._rows and not self._identified:
            advice = "set `person: [user_id, anonymous_id]` where the anonymous ID identifies a person"
            return [f"no event has a user_id, so nobody is identified; map user_id, or {advice}"]
        found = []
        for name, rows in self._ids.most_common(3) if self._people > 1 else ():
            others = (self._identified - rows) / (self._people - 1)
            if rows >= _SHARE * self._identified and rows > _TIMES * others:
                found.append(
                    f"user_id {name!r} has {rows:,} rows, {rows / self._identified:.0%} of all: if it stands for "
                    f"nobody, add it to `nobody`"
                )
        return found
