"""`make bench-features`: the daily views of one night, ours beside SQL written by hand, in one run.

The same simulated events go through each way; each run is a process of its own, and the answers are compared bit
for bit. The time runs from importing libraries until the views are on disk. Of a way that takes less than 20 CPU
seconds it is the shortest of three runs, and memory is the largest. The catalogue exists before; only the stage makes
its own.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.events import make
from bench.harness import ROOT, apart, console, markdown, measured
from shoplens.files import read_json, whole_file, whole_folder, write_json

KEPT = ROOT / "var/bench/features.json"
STAGE, OURS, SQL, HISTORY = "ours, the whole stage", "ours", "SQL by hand", "ours, every day"
COMPARED = (STAGE, SQL)  # ways whose answers must be ours, bit for bit
_SHORT, _RUNS = 20.0, 3  # CPU seconds below which a way runs that often; CPU time does not depend on other load
_HISTORY_ROWS = 1_000_000  # the largest log whose whole history is computed


@dataclass(frozen=True)
class Result:
    """What one way over one log came to; `seconds` is None where it took more memory than it may."""

    way: str
    rows: int
    snapshots: int
    seconds: float | None
    cpu_seconds: float | None
    peak_gb: float


def _params(history_days: int | None) -> Any:
    from shoplens.params import load_params

    found = load_params(ROOT / "params.yaml")
    features = found.features.model_copy(update={"history_days": history_days})
    return found.model_copy(update={"features": features})


def _moment(events: Path) -> datetime:
    """Return the start of the day of the snapshot."""
    end = datetime.fromisoformat(read_json(events / "dataset.json")["high_water"]).astimezone(UTC)
    return end.replace(hour=0, minute=0, second=0, microsecond=0)


def _stage(events: Path, out: Path, history_days: int | None = None) -> Callable[[], None]:
    from features.stages import compute

    return lambda: print(compute(events, out, _params(history_days)), file=sys.stderr)  # noqa: T201


def _views() -> list[Any]:
    """Return the views that are written by hand, too."""
    from bench.sql import queries
    from features.definitions import VIEWS

    return [view for view in VIEWS if view.name in queries()]


@contextmanager
def _working(out: Path, duckdb: Callable[[Path], Any]) -> Iterator[tuple[Path, Any]]:
    """Yield a folder for work, removed afterwards, and a DuckDB of the features in it."""
    work = out / ".work"
    work.mkdir()
    with duckdb(work) as duck:
        yield work, duck
    shutil.rmtree(work)


def _ours(events: Path, out: Path) -> Callable[[], None]:
    """Return what computes the views as the stage does, from a catalogue that is there."""
    from features.engine.engines import duckdb
    from features.engine.job import Job, SplitLog
    from features.views.windows import Days

    day = int(_moment(events).timestamp()) // 86_400

    def run() -> None:
        with _working(out, duckdb) as (work, duck):
            log = SplitLog(duck.connection, events / "events.parquet", work)
            job = Job(duck, log, out, Days(day, day), _params(1).features.active_days)
            for view in _views():
                job.write(view, lambda done, of: None)

    return run


def _sql(events: Path, out: Path) -> Callable[[], None]:
    from bench.sql import queries
    from features.engine.engines import duckdb

    moment = _moment(events)
    known = {
        "events": str(events / "events.parquet"),
        "catalogue": str(out / "catalogue.parquet"),
        "moment": moment,
        "day": int(moment.timestamp()) // 86_400,
        "active": _params(1).features.active_days,
    }

    def run() -> None:
        with _working(out, duckdb) as (_, duck):  # the same memory, threads and time zone
            for view, query in queries().items():
                asked = {name: value for name, value in known.items() if f"${name}" in query}
                options = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 131072"
                duck.connection.execute(f"COPY ({query}) TO '{out / view}.parquet' ({options})", asked)

    return run


WAYS: dict[str, Callable[[Path, Path], Callable[[], None]]] = {
    OURS: _ours,
    SQL: _sql,
    STAGE: partial(_stage, history_days=1),
    HISTORY: _stage,
}


def _run(way: str, events: Path, out: Path) -> Result:
    """Run one way in this process."""
    import pyarrow.parquet as pq

    took = measured(WAYS[way](events, out))
    snapshots = sum(int(pq.read_metadata(out / f"{view.name}.parquet").num_rows) for view in _views())
    return Result(way, _rows(events), snapshots, took.seconds, took.cpu_seconds, took.peak_gb)


def _rows(events: Path) -> int:
    return int(read_json(events / "dataset.json")["rows"])


def _catalogue(events: Path, folder: Path) -> Path:
    """Return the catalogue of a log, made if it is not there."""
    import polars as pl

    from features.catalogue import read_catalogue
    from features.engine.engines import duckdb

    path = folder / f"catalogue-{events.name}.parquet"
    if not path.is_file():
        with duckdb(folder / ".work") as duck, whole_file(path) as work:
            log = duck.connection.read_parquet(str(events / "events.parquet"))
            found = read_catalogue(log, pl.read_parquet(events / "items.parquet"))
            found.frame.write_parquet(work)
    return path


def _again(way: str, events: Path, catalogue: Path, answers: Path, limit_gb: float) -> Result:
    """Run one way into a new folder of answers, which takes the place of the one before."""
    shutil.rmtree(answers, ignore_errors=True)
    with whole_folder(answers) as out:
        if way in (OURS, SQL):  # the others make it
            shutil.copy(catalogue, out / "catalogue.parquet")
        done = apart(_run, way, events, out, limit_gb=limit_gb)
        return Result(way, _rows(events), 0, None, None, limit_gb) if done is None else done


def least(runs: list[Result]) -> Result:
    """Return the least time of some runs of one way, and the most memory."""
    peak = max(run.peak_gb for run in runs)
    ended = [run for run in runs if run.seconds is None]
    if ended:
        return replace(ended[0], peak_gb=peak)
    seconds, cpu = (min(getattr(run, name) for run in runs) for name in ("seconds", "cpu_seconds"))
    return replace(runs[0], seconds=seconds, cpu_seconds=cpu, peak_gb=peak)


def measure(ways: list[str], events: Path, folder: Path, limit_gb: float) -> list[Result]:
    """Run some ways over one log, in turns, so that what else the machine does meets each of them.

    Raises:
        SystemExit: A way failed, or two ways have different answers.
    """
    runs: dict[str, list[Result]] = {way: [] for way in ways}
    answers = {way: folder / f"{events.name}-{place}" for place, way in enumerate(WAYS)}
    catalogue = _catalogue(events, folder)
    for turn in range(_RUNS):
        for way, done in runs.items():
            if turn == 0 or (done[-1].cpu_seconds or _SHORT) < _SHORT:
                done.append(_again(way, events, catalogue, answers[way], limit_gb))
                console.print(json.dumps(asdict(done[-1])), soft_wrap=True)
                if way in COMPARED and done[-1].seconds is not None:
                    compare(answers[OURS], answers[way])
    return [least(done) for done in runs.values()]


def compare(ours: Path, other: Path) -> None:
    """Compare the views of two folders, types and bits, rows in the same order.

    Raises:
        SystemExit: A view that differs, and how.
    """
    import polars as pl
    from polars.testing import assert_frame_equal

    for view in _views():
        one, two = (pl.read_parquet(folder / f"{view.name}.parquet") for folder in (ours, other))
        try:
            assert_frame_equal(one, two, check_exact=True)
        except AssertionError as error:
            raise SystemExit(f"{other}: {view.name} must be as in {ours}; {error}") from None


def table(results: list[Result]) -> str:
    """Return the results as a table of Markdown."""
    rows = []
    for one in sorted(results, key=lambda result: (result.rows, list(WAYS).index(result.way))):
        figures = ("", "out of memory", "", "", f"more than {one.peak_gb:.0f}")
        if one.seconds is not None and one.cpu_seconds is not None:
            rate = f"{one.rows / one.seconds:,.0f}"
            took = (f"{one.seconds:.1f}", f"{one.cpu_seconds:.1f}")
            figures = (f"{one.snapshots:,}", *took, rate, f"{one.peak_gb:.2f}")
        rows.append((f"{one.rows:,}", one.way, *figures))
    columns = ("rows", "way", "snapshots", "seconds", "CPU seconds", "rows/s", "peak memory (GB)")
    return markdown(columns, rows)


def _groups(ways: list[str]) -> list[list[str]]:
    """Return what is measured in turns: the ways that are compared with ours, and it first; then the rest."""
    compared = [way for way in ways if way in (OURS, *COMPARED)]
    first = list(dict.fromkeys([OURS, *compared])) if compared else []
    return [group for group in (first, [way for way in ways if way not in first]) if group]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-features", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="about so many events")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="what to measure")
    parser.add_argument("--folder", type=Path, help="where events are made and kept; else they are removed again")
    parser.add_argument("--limit-gb", type=float, default=16.0, help="a way that takes more memory is ended")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    return parser.parse_args()


def main() -> None:
    """Measure what was not measured yet, print the table, keep the figures."""
    asked = _asked()
    results: dict[str, Any] = read_json(KEPT)["results"] if KEPT.is_file() else {}
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-features-", dir=asked.folder) as name:
        folder = asked.folder or Path(name)
        for rows in asked.rows:
            ways = [way for way in asked.ways if asked.again or f"{way} {rows}" not in results]
            ways = [way for way in ways if way != HISTORY or rows <= _HISTORY_ROWS]
            for group in _groups(ways):
                for result in measure(group, make(rows, folder), Path(name), asked.limit_gb):
                    results[f"{result.way} {rows}"] = asdict(result)
                KEPT.parent.mkdir(parents=True, exist_ok=True)
                write_json(KEPT, {"cores": os.cpu_count(), "results": results})
    console.print(table([Result(**one) for one in results.values()]), soft_wrap=True)


if __name__ == "__main__":
    main()
