"""`make bench-features`: compare the daily views of one night with hand-written SQL, in one run.

Each method processes the same simulated events in a separate process, and the results must be bit-identical. Times run
from importing libraries until the views are on disk. For methods that take less than 20 CPU seconds, the time is the
shortest of three runs, and the memory is the largest. The catalogue is prepared in advance; only the stage builds its
own.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.events import make
from bench.harness import ROOT, apart, console, markdown, measured
from shoplens.files import read_json, whole_folder

OURS, SQL, STAGE = "ours", "SQL by hand", "ours, the whole stage"
_SHORT, _RUNS = 20.0, 3  # CPU seconds below which a method runs several times; CPU time does not depend on other load


@dataclass(frozen=True)
class Result:
    """The result of one method on one log; `seconds` is None if it exceeded the memory limit."""

    way: str
    rows: int
    snapshots: int
    seconds: float | None
    cpu_seconds: float
    peak_gb: float


def _stage(events: Path, out: Path) -> Callable[[], None]:
    """Return a function that runs the whole stage for one day."""
    from features.stages import compute
    from shoplens.params import load_params

    found = load_params(ROOT / "params.yaml")
    params = found.model_copy(update={"features": found.features.model_copy(update={"history_days": 1})})
    return lambda: console.print(compute(events, out, params))


def _views() -> list[Any]:
    """Return the views that also exist as hand-written SQL."""
    from bench.sql import queries
    from features.definitions import VIEWS

    return [view for view in VIEWS if view.name in queries()]


def _by_view(events: Path, out: Path, *, ours: bool) -> Callable[[], None]:
    """Return a function that computes the views from an existing catalogue, by the stage's code or hand-written SQL."""
    from bench.sql import queries
    from features.engine.engines import duckdb
    from features.engine.job import Job, SplitLog
    from features.views.windows import Days
    from shoplens.params import load_params

    high_water = datetime.fromisoformat(read_json(events / "dataset.json")["high_water"]).astimezone(UTC)
    moment = high_water.replace(hour=0, minute=0, second=0, microsecond=0)
    day, log = int(moment.timestamp()) // 86_400, events / "events.parquet"
    active = load_params(ROOT / "params.yaml").features.active_days
    known = {"events": str(log), "catalogue": str(out / "catalogue.parquet")}
    known |= {"moment": moment, "day": day, "active": active}

    def run() -> None:
        work = out / ".work"
        work.mkdir()
        with duckdb(work) as duck:  # the same memory, threads and time zone for both
            job = Job(duck, SplitLog(duck.connection, log, work), out, Days(day, day), active)
            for view in _views():
                if ours:
                    job.write(view, lambda done, of: None)
                    continue
                query = queries()[view.name]
                asked = {name: value for name, value in known.items() if f"${name}" in query}
                options = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 131072"
                duck.connection.execute(f"COPY ({query}) TO '{out / view.name}.parquet' ({options})", asked)
        shutil.rmtree(work)

    return run


WAYS: dict[str, Callable[[Path, Path], Callable[[], None]]] = {
    OURS: partial(_by_view, ours=True),
    SQL: partial(_by_view, ours=False),
    STAGE: _stage,
}


def _run(way: str, events: Path, out: Path) -> Result:
    """Run one method in this process."""
    from features.engine.engines import row_count

    took = measured(WAYS[way](events, out))
    snapshots = sum(row_count(out / f"{view.name}.parquet") for view in _views())
    rows = row_count(events / "events.parquet")
    return Result(way, rows, snapshots, took.seconds, took.cpu_seconds, took.peak_gb)


def measure(ways: list[str], events: Path, folder: Path, limit_gb: float) -> list[Result]:
    """Run several methods on one log, in turns, so that other load on the machine affects all of them.

    Raises:
        SystemExit: A method failed, or its results differ from those of the first.
    """
    import polars as pl

    from features.catalogue import read_catalogue
    from features.engine.engines import duckdb, row_count

    runs: dict[str, list[Result]] = {way: [] for way in ways}
    answers = {way: folder / f"{events.name}-{place}" for place, way in enumerate(WAYS)}
    catalogue = folder / "catalogue.parquet"
    with duckdb(folder / ".work") as duck:
        log = duck.connection.read_parquet(str(events / "events.parquet"))
        end = datetime.max.replace(tzinfo=UTC)
        read_catalogue(log, pl.read_parquet(events / "items.parquet"), end).frame.write_parquet(catalogue)
    for turn in range(_RUNS):
        for way, done in runs.items():
            if turn and done[-1].cpu_seconds >= _SHORT:
                continue
            shutil.rmtree(answers[way], ignore_errors=True)
            with whole_folder(answers[way]) as out:
                if way != STAGE:  # it builds its own
                    shutil.copy(catalogue, out)
                found = apart(_run, way, events, out, limit_gb=limit_gb)
            done.append(found or Result(way, row_count(events / "events.parquet"), 0, None, _SHORT, limit_gb))
            console.print(json.dumps(asdict(done[-1])), soft_wrap=True)
            if found and way != ways[0]:
                compare(answers[ways[0]], answers[way])
    for done in runs.values():  # a run that was killed has no time, so its method has none either
        done.sort(key=lambda run: run.seconds or 0.0)
    return [replace(done[0], peak_gb=max(run.peak_gb for run in done)) for done in runs.values()]


def compare(ours: Path, other: Path) -> None:
    """Check that the views of two folders are identical in types, values and row order.

    Raises:
        SystemExit: A view differs; the message shows how.
    """
    import polars as pl
    from polars.testing import assert_frame_equal

    for view in _views():
        one, two = (pl.read_parquet(folder / f"{view.name}.parquet") for folder in (ours, other))
        try:
            assert_frame_equal(one, two, check_exact=True)
        except AssertionError as error:
            raise SystemExit(f"{other}: {view.name} must equal the one in {ours}; {error}") from None


def table(results: list[Result]) -> str:
    """Return the results as a Markdown table."""
    rows = []
    for one in results:
        figures = ("", "out of memory", "", "", f"more than {one.peak_gb:.0f}")
        if one.seconds is not None:
            took = (f"{one.seconds:.1f}", f"{one.cpu_seconds:.1f}", f"{one.rows / one.seconds:,.0f}")
            figures = (f"{one.snapshots:,}", *took, f"{one.peak_gb:.2f}")
        rows.append((f"{one.rows:,}", one.way, *figures))
    return markdown(("rows", "way", "snapshots", "seconds", "CPU seconds", "rows/s", "peak memory (GB)"), rows)


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-features", description=__doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="approximate number of events"
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="what to measure")
    parser.add_argument("--folder", type=Path, help="folder in which events are kept; by default they are removed")
    parser.add_argument("--limit-gb", type=float, default=16.0, help="memory limit; methods that exceed it are killed")
    asked = parser.parse_args()
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-features-", dir=asked.folder) as name:
        for rows in asked.rows:
            events = make(rows, asked.folder or Path(name))
            results += measure(asked.ways, events, Path(name), asked.limit_gb)
    console.print(table(results), soft_wrap=True)


if __name__ == "__main__":
    main()
