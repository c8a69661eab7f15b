"""Parts of a reading put together: one event an id, and what became of every row of every part."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import QUARANTINE_SCHEMA
from events.duplicates import OTHER_CONTENT, distinct
from events.transform.quarantine import quarantine


@dataclass(frozen=True)
class Part:
    """The rows of one file, read for one entry of the mapping's `events`.

    Attributes:
        label: See `events.labels`.
        rows_in: How many there were.
        events: Accepted, as `events.transform` left them.
        quarantined: QUARANTINE_SCHEMA.
        reread: Returns the raw rows again; they are needed rarely, and are not kept meanwhile.
    """

    label: str
    rows_in: int
    events: pl.DataFrame
    quarantined: pl.DataFrame
    reread: Callable[[], pl.DataFrame]


@dataclass(frozen=True)
class Settled:
    """Parts put together.

    Attributes:
        events: One row an id, as `events.transform` left it.
        origin: event_id and table (a label) of every one of them.
        quarantined: QUARANTINE_SCHEMA of all parts.
        accounts: By label.
    """

    events: pl.DataFrame
    origin: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]


def _clash_rows(part: Part, rows: pl.Series) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA of rows whose id was seen with other content."""
    if rows.is_empty():
        return pl.DataFrame(schema=QUARANTINE_SCHEMA)
    marked = pl.DataFrame({"_row": rows}).with_columns(pl.lit([OTHER_CONTENT]).alias("_reasons"))
    return quarantine(part.reread()[rows.to_list()], marked, part.label)


def settle(parts: list[Part]) -> Settled:
    """Keep one event an id, of the part and row where it came first, and account for every row of every part."""
    frames = [part.events.with_columns(pl.lit(n, dtype=pl.Int32).alias("_part")) for n, part in enumerate(parts)]
    done = distinct(pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0])
    del frames  # a year of events is in memory twice otherwise
    accepted = dict(done.events["_part"].value_counts().iter_rows())
    repeated = dict(done.repeated.value_counts().iter_rows())
    set_aside, accounts = [], {}
    for n, part in enumerate(parts):
        clashing = _clash_rows(part, done.clashes.filter(pl.col("_part") == n)["_row"])
        aside = pl.concat([part.quarantined, clashing])
        accounts[part.label] = TableAccount(part.rows_in, accepted.get(n, 0), count_reasons(aside), repeated.get(n, 0))
        set_aside.append(aside)
    labels = {n: part.label for n, part in enumerate(parts)}
    table = pl.col("_part").replace_strict(labels, return_dtype=pl.String).alias("table")
    return Settled(done.events, done.events.select("event_id", table), pl.concat(set_aside), accounts)
