"""`make bench-features`: the daily views of one night, ours beside SQL written by hand, in one run.

The same simulated events go through each way; each run is a process of its own, and the answers are compared bit
for bit. The time runs from importing libraries until the views are on disk. Of a way that takes less than 20 CPU
seconds it is the shortest of three runs, and memory is the largest. The catalogue exists before; only the stage makes
its own.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from bench.events import make
from shoplens.files import read_json, whole_file, whole_folder, write_json

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "var/bench/features.json"
STAGE, OURS, SQL, HISTORY = "ours, the whole stage", "ours", "SQL by hand", "ours, every day"
COMPARED = (STAGE, SQL)  # ways whose answers must be ours, bit for bit
_SHORT, _RUNS = 20.0, 3  # CPU seconds below which a way runs that often; CPU time does not depend on other load
_HISTORY_ROWS = 1_000_000  # the largest log whose whole history is computed
console = Console(width=120)


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


def _stage(history_days: int | None) -> Callable[[Path, Path], Callable[[], None]]:
    def prepared(events: Path, out: Path) -> Callable[[], None]:
        from features.stages import compute

        return lambda: print(compute(events, out, _params(history_days)), file=sys.stderr)  # noqa: T201

    return prepared


def _views() -> list[Any]:
    """Return the views that are written by hand, too."""
    from bench.sql import queries
    from features.definitions import VIEWS

    return [view for view in VIEWS if view.name in queries()]


def _ours(events: Path, out: Path) -> Callable[[], None]:
    """Return what computes the views as the stage does, from a catalogue that is there."""
    from features.engine.duck import duckdb
    from features.engine.job import Job
    from features.engine.shards import SplitLog
    from features.windows import Days

    day = int(_moment(events).timestamp()) // 86_400

    def run() -> None:
        work = out / ".work"
        work.mkdir()
        with duckdb(work) as duck:
            log = SplitLog(duck.connection, events / "events.parquet", work)
            job = Job(duck, log, out, Days(day, day), _params(1).features.active_days)
            for view in _views():
                job.write(view, lambda done, of: None)
        shutil.rmtree(work)

    return run


def _sql(events: Path, out: Path) -> Callable[[], None]:
    from bench.sql import queries
    from features.engine.duck import duckdb

    moment = _moment(events)
    known = {
        "events": str(events / "events.parquet"),
        "catalogue": str(out / "catalogue.parquet"),
        "moment": moment,
        "day": int(moment.timestamp()) // 86_400,
        "active": _params(1).features.active_days,
    }

    def run() -> None:
        work = out / ".work"
        work.mkdir()
        with duckdb(work) as duck:  # the same memory, threads and time zone
            for view, query in queries().items():
                asked = {name: value for name, value in known.items() if f"${name}" in query}
                target = out / f"{view}.parquet"
                options = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 131072"
                duck.connection.execute(f"COPY ({query}) TO '{target}' ({options})", asked)
        shutil.rmtree(work)

    return run


WAYS: dict[str, Callable[[Path, Path], Callable[[], None]]] = {
    OURS: _ours,
    SQL: _sql,
    STAGE: _stage(1),
    HISTORY: _stage(None),
}


def _peak_gb() -> float:
    """Return the most memory of this process; `ru_maxrss` would count the process that started it, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise SystemExit("/proc/self/status: must have VmHWM; it has none: measure on Linux")
    return int(found[1]) * 1024 / 1e9


def _snapshots(out: Path) -> int:
    import pyarrow.parquet as pq

    return sum(int(pq.read_metadata(out / f"{view.name}.parquet").num_rows) for view in _views())


def _one(way: str, events: Path, out: Path) -> Result:
    """Run one way in this process."""
    run = WAYS[way](events, out)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    rows = int(read_json(events / "dataset.json")["rows"])
    return Result(way, rows, _snapshots(out), seconds, cpu, _peak_gb())


def _apart(way: str, events: Path, out: Path, limit_gb: float) -> Result:
    """Run one way in a process of its own, which is ended when it takes more than `limit_gb`."""
    command = [sys.executable, "-m", "bench.features", "--one", way, str(events), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        seen, process = 0.0, psutil.Process(child.pid)
        while child.poll() is None and seen <= limit_gb:
            try:
                seen = max(seen, process.memory_info().rss / 1e9)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
        if seen > limit_gb:
            child.kill()
            return Result(way, int(read_json(events / "dataset.json")["rows"]), 0, None, None, limit_gb)
        output, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{way}: failed over {events}; see above")
    return Result(**json.loads(output.splitlines()[-1]))


def _catalogue(events: Path, folder: Path) -> Path:
    """Return the catalogue of a log, made if it is not there."""
    import polars as pl

    from features.catalogue import read_catalogue
    from features.engine.duck import duckdb

    path = folder / f"catalogue-{events.name}.parquet"
    if not path.is_file():
        with duckdb(folder / ".work") as duck, whole_file(path) as work:
            log = duck.connection.read_parquet(str(events / "events.parquet"))
            found = read_catalogue(log, pl.read_parquet(events / "items.parquet"))
            found.frame.write_parquet(work)
    return path


def _again(way: str, events: Path, catalogue: Path | None, answers: Path, limit_gb: float) -> Result:
    """Run one way into a new folder of answers, which takes the place of the one before."""
    shutil.rmtree(answers, ignore_errors=True)
    with whole_folder(answers) as out:
        if catalogue is not None:
            shutil.copy(catalogue, out / "catalogue.parquet")
        return _apart(way, events, out, limit_gb)


def least(runs: list[Result]) -> Result:
    """Return the least time of some runs of one way, and the most memory."""
    peak = max(run.peak_gb for run in runs)
    if any(run.seconds is None for run in runs):
        return Result(runs[0].way, runs[0].rows, 0, None, None, peak)
    seconds, cpu = (min(getattr(run, name) for run in runs) for name in ("seconds", "cpu_seconds"))
    return Result(runs[0].way, runs[0].rows, runs[0].snapshots, seconds, cpu, peak)


def measured(ways: list[str], events: Path, folder: Path, limit_gb: float) -> list[Result]:
    """Run some ways over one log, in turns, so that what else the machine does meets each of them.

    Raises:
        SystemExit: A way failed, or two ways have different answers.
    """
    runs: dict[str, list[Result]] = {way: [] for way in ways}
    answers = {way: folder / f"{events.name}-{place}" for place, way in enumerate(WAYS)}
    catalogue = _catalogue(events, folder)
    for turn in range(_RUNS):
        for way in ways:
            done = runs[way]
            if turn == 0 or (done[-1].cpu_seconds or _SHORT) < _SHORT:
                makes = way in (STAGE, HISTORY)
                done.append(_again(way, events, None if makes else catalogue, answers[way], limit_gb))
                console.print(json.dumps(asdict(done[-1])), soft_wrap=True)
                if way in COMPARED and done[-1].seconds is not None:
                    compare(answers[OURS], answers[way])
    return [least(done) for done in runs.values()]


def compare(ours: Path, other: Path) -> None:
    """Compare the views of two folders, types and bits.

    Args:
        ours: Has the views.
        other: The same of another way, rows in the same order.

    Raises:
        SystemExit: A view, column and number of rows that differ.
    """
    import polars as pl

    for view in _views():
        one, two = (pl.read_parquet(folder / f"{view.name}.parquet") for folder in (ours, other))
        if one.schema != two.schema or one.height != two.height:
            raise SystemExit(
                f"{other}: {view.name} must be {one.schema} of {one.height:,} rows as ours is; it is {two}"
            )
        for name in one.columns:
            same = one[name].eq_missing(two[name])
            if not same.all():
                raise SystemExit(f"{other}: {view.name}.{name} differs from ours in {(~same).sum():,} rows")


def table(results: list[Result]) -> str:
    """Return the results as a table of Markdown."""
    lines = [
        "| rows | way | snapshots | seconds | CPU seconds | rows/s | peak memory (GB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in sorted(results, key=lambda result: (result.rows, list(WAYS).index(result.way))):
        if one.seconds is None or one.cpu_seconds is None:
            lines.append(f"| {one.rows:,} | {one.way} | | out of memory | | | more than {one.peak_gb:.0f} |")
            continue
        rate = f"{one.rows / one.seconds:,.0f}"
        took = f"{one.seconds:.1f} | {one.cpu_seconds:.1f} | {rate} | {one.peak_gb:.2f}"
        lines.append(f"| {one.rows:,} | {one.way} | {one.snapshots:,} | {took} |")
    return "\n".join(lines)


def _kept() -> dict[str, Any]:
    return dict(read_json(KEPT)["results"]) if KEPT.is_file() else {}


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
    parser.add_argument("--one", nargs=3, metavar=("WAY", "EVENTS", "OUT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure what was not measured yet, print the table, keep the figures."""
    asked = _asked()
    if asked.one:
        way, events, out = asked.one
        print(json.dumps(asdict(_one(way, Path(events), Path(out)))))  # noqa: T201  (read by the process above)
        return
    results = _kept()
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-features-", dir=asked.folder) as name:
        folder = asked.folder or Path(name)
        for rows in asked.rows:
            ways = [way for way in asked.ways if asked.again or f"{way} {rows}" not in results]
            ways = [way for way in ways if way != HISTORY or rows <= _HISTORY_ROWS]
            for group in _groups(ways):
                for result in measured(group, make(rows, folder), Path(name), asked.limit_gb):
                    results[f"{result.way} {rows}"] = asdict(result)
                KEPT.parent.mkdir(parents=True, exist_ok=True)
                write_json(KEPT, {"cores": os.cpu_count(), "results": results})
    console.print(table([Result(**one) for one in results.values()]), soft_wrap=True)


if __name__ == "__main__":
    main()
