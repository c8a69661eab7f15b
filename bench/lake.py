"""Measure live appends to an empty and a large lake, including compaction: `python -m bench.lake --rows 100000000`.

Each append adds 100 events with random UUIDs; every tenth also repeats events of an earlier append and, in the large
lake, events of other days. The benchmark compares the median append times.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from bench.harness import console
from events.account import TableAccount
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.lake import append_events, lake_status
from events.lake.commit import LIVE, Incoming, append_incoming
from events.lake.table import created

_DAYS = 365
_END = datetime(2026, 7, 1, tzinfo=UTC)
_CHUNK = 1 << 20
_BATCH, _REPEATED, _EVERY = 100, 5, 10
_NONE = pl.DataFrame(schema=QUARANTINE_SCHEMA)


def _events(rng: np.random.Generator, count: int, start: datetime, span: timedelta) -> pl.DataFrame:
    """Return views with random UUIDs, sorted by time."""
    raw = rng.bytes(16 * count)
    moments = np.sort(rng.integers(0, int(span.total_seconds() * 1e6), count))
    times = pl.lit(start) + pl.Series("t", moments).cast(pl.Duration("us"))
    frame = pl.DataFrame({"event_id": pl.Series([raw[16 * n : 16 * n + 16] for n in range(count)]).bin.encode("hex")})
    frame = frame.with_columns(
        times.alias("event_time"),
        times.alias("ingested_at"),
        pl.lit("view_item").alias("event_name"),
        pl.Series("user_id", rng.integers(0, 100_000, count)).cast(pl.String),
        pl.Series("item_id", rng.integers(0, 10_000, count)).cast(pl.String),
    )
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None, dtype=kind).alias(name)).cast(kind)
        for name, kind in EVENT_SCHEMA.items()
    )


def _fill(place: Path, rows: int) -> list[pl.DataFrame]:
    """Fill a lake with a year of events; return a few events of each chunk."""
    chunks = -(-rows // _CHUNK)
    span = timedelta(days=_DAYS) / chunks
    samples: list[pl.DataFrame] = []

    def events() -> Iterator[pl.DataFrame]:
        rng = np.random.default_rng(1)
        samples.clear()
        for n in range(chunks):
            height = min(_CHUNK, rows - n * _CHUNK)
            frame = _events(rng, height, _END - timedelta(days=_DAYS + 1) + n * span, span)
            samples.append(frame.sample(min(_REPEATED, height), seed=n))
            yield frame.with_columns(pl.lit(LIVE).alias("table"))

    account = {LIVE: TableAccount(rows, rows)}
    append_incoming(created(place, "user", "bench"), Incoming("bench", "base", account, events, lambda: [_NONE]))
    return samples


def _append_all(place: Path, appends: int, base: list[pl.DataFrame]) -> list[float]:
    """Append live batches; return the seconds of each."""
    rng = np.random.default_rng(2)
    before: list[pl.DataFrame] = []
    seconds = []
    for n in range(appends):
        batch = _events(rng, _BATCH, _END + timedelta(seconds=10 * n), timedelta(seconds=10))
        repeated = []
        if n % _EVERY == _EVERY - 1:
            repeated = [before[int(rng.integers(len(before)))].head(_REPEATED)]
            repeated += [base[int(rng.integers(len(base)))]] if base else []
        before.append(batch)
        started = time.perf_counter()
        account = append_events(place, "user", pl.concat([batch, *repeated]), _NONE, f"live-{n}")
        seconds.append(time.perf_counter() - started)
        if (account.accepted, account.exact_duplicates) != (_BATCH, sum(frame.height for frame in repeated)):
            raise AssertionError(f"append {n}: must accept {_BATCH} and drop the repeated; received {account}")
    return seconds


def measure(folder: Path, rows: int, appends: int) -> dict[int, float]:
    """Print the time of appends to an empty lake and to one with `rows` events; return the median for each size."""
    medians = {}
    for size in (0, rows):
        place = folder / f"lake-{size}"
        started = time.perf_counter()
        base = _fill(place, size) if size else []
        filled = time.perf_counter() - started
        seconds = _append_all(place, appends, base)
        medians[size] = statistics.median(seconds)
        p95 = statistics.quantiles(seconds, n=20)[-1]
        console.print(
            f"{size:,} rows (filled in {filled:.0f} s): {appends:,} appends, median {medians[size] * 1000:.0f} ms, "
            f"95% {p95 * 1000:.0f} ms, longest {max(seconds):.1f} s"
        )
        console.print(lake_status(place)[2])
    console.print(f"ratio of the medians: {medians[rows] / medians[0]:.2f}")
    return medians


def main() -> None:
    """Run the benchmark with the sizes from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--appends", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shoplens-bench-lake-") as folder:
        measure(Path(folder), arguments.rows, arguments.appends)


if __name__ == "__main__":
    main()
