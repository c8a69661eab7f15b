"""Events out of runs in their final order, one an id, a stretch of time after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl

from events.duplicates import distinct
from events.sessions import WHO, with_sessions
from events.spill import Runs, buckets, scan

_MICROSECOND = timedelta(microseconds=1)
_PLACE = ["_part", "_row"]


@dataclass(frozen=True)
class Span:
    """A stretch of time, from `low` on and before `high`, and where to cut it by event id if it is one moment."""

    low: datetime | None
    high: datetime | None
    ids: tuple[str, ...] = ()

    def holds(self, name: str = "event_time") -> pl.Expr:
        """Say which rows lie in it."""
        tests = [pl.lit(value=True)]
        if self.low is not None:
            tests.append(pl.col(name) >= self.low)
        if self.high is not None:
            tests.append(pl.col(name) < self.high)
        return pl.all_horizontal(tests)

    def meets(self, first: datetime, last: datetime) -> bool:
        """Say whether it has a moment in common with those from `first` to `last`."""
        return (self.low is None or last >= self.low) and (self.high is None or first < self.high)


def spans(samples: pl.DataFrame, count: int) -> list[Span]:
    """Cut time into about `count` stretches of about as many events each.

    A moment at which more happened than goes into one stretch is a stretch of its own, to be cut by event id.

    Args:
        samples: event_time and event_id of every n-th event.
        count: How many.
    """
    times = samples["event_time"].sort()
    chosen = [times[n * times.len() // count] for n in range(1, count)] if times.len() else []
    heavy = {time for time, again in pairwise(chosen) if time == again}
    cuts = sorted({*chosen, *(time + _MICROSECOND for time in heavy)})
    found = [Span(low, high) for low, high in pairwise([None, *cuts, None])]
    return [_cut(span, samples, count) if span.low in heavy else span for span in found]


def _cut(span: Span, samples: pl.DataFrame, count: int) -> Span:
    ids = samples.filter(pl.col("event_time") == span.low)["event_id"].sort()
    parts = -(-ids.len() * count // samples.height)
    return Span(span.low, span.high, tuple(sorted({ids[n * ids.len() // parts] for n in range(1, parts)})))


def find_strays(runs: Runs, folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Find the events whose id came first with another moment or another person: those have other content, surely.

    What is left of an id is of one moment and one person, and need not be looked for elsewhere.

    Args:
        runs: All events.
        folder: Where to write.
        count: In how many parts to go through the ids.

    Returns:
        Parquet files of `_part`, `_row` and event_time of strays, each sorted by event_time; and of the others
        `_who`, event_time and `_missing`, whether a session id is: for sessions, and none where every event has one.
    """
    columns = ["event_id", "event_time", *_PLACE]
    keys = scan(runs.files).select(*columns, WHO, pl.col("session_id").is_null().alias("_missing"))
    strays, moments = [], []
    for n, part in enumerate(buckets(keys, "event_id", count, folder / "ids")):
        away = _strays(part)
        if away.height:
            strays.append(folder / f"strays-{n:05}.parquet")
            away.select(*_PLACE, "event_time").sort("event_time").write_parquet(strays[-1], compression="lz4")
        if runs.without_session:
            moments.append(folder / f"moments-{n:05}.parquet")
            left = part.join(away, on=_PLACE, how="anti") if away.height else part
            left.select("_who", "event_time", "_missing").write_parquet(moments[-1], compression="lz4")
    return strays, moments


def _strays(part: pl.DataFrame) -> pl.DataFrame:
    twice = part.filter(pl.col("event_id").is_duplicated()).sort(_PLACE)
    first = twice.unique("event_id", keep="first", maintain_order=True)
    both = twice.join(first.select("event_id", "event_time", "_who"), on="event_id", suffix="_first")
    return both.filter((pl.col("event_time") != pl.col("event_time_first")) | (pl.col("_who") != pl.col("_who_first")))


@dataclass(frozen=True)
class Batch:
    """Events that follow each other.

    Attributes:
        events: As `events.transform` left them, with sessions, one row an id, sorted by event_time and event_id.
        clashes: `_part` and `_row` of rows whose id came with other content before.
        repeated: `_part` of every exact duplicate.
    """

    events: pl.DataFrame
    clashes: pl.DataFrame
    repeated: pl.Series


def batches(runs: Runs, strays: list[Path], starts: list[Path], count: int) -> Iterator[Batch]:
    """Yield all events in their final order, in about `count` batches of about the same size.

    Args:
        runs: All events.
        strays: See `find_strays`.
        starts: See `events.sessions.write_starts`.
        count: How many batches.
    """
    if not runs.files:
        return
    for span in spans(pl.concat(runs.samples), count):
        files = [file for file, ends in zip(runs.files, runs.spans, strict=True) if span.meets(*ends)]
        if not files:
            continue
        away = scan(strays).filter(span.holds()).collect() if strays else None
        begun = scan(starts).filter(span.holds()).collect() if starts else None
        for low, high in pairwise([None, *span.ids, None]):
            inside = span.holds()
            inside = inside if low is None else inside & (pl.col("event_id") >= low)
            inside = inside if high is None else inside & (pl.col("event_id") < high)
            yield _batch(scan(files).filter(inside).collect(), away, begun)


def _batch(rows: pl.DataFrame, strays: pl.DataFrame | None, starts: pl.DataFrame | None) -> Batch:
    if strays is not None and strays.height:
        rows = rows.join(strays, on=_PLACE, how="anti")
    ordered = rows.sort("event_time", "event_id", *_PLACE)
    again = (ordered["event_id"] == ordered["event_id"].shift(1)).fill_null(value=False)
    shared = distinct(ordered.filter(again | again.shift(-1, fill_value=False)))
    events = ordered.filter(~again) if shared.events.height else ordered
    return Batch(events if starts is None else with_sessions(events, starts), shared.clashes, shared.repeated)
