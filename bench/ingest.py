"""`make bench-ingest`: the stage `ingest` over a simulated log, beside Polars reading and writing the same columns.

The log is that of a shop with dirt (duplicates, ids with other content, late and unordered rows, wrong values). Above
ten million rows it is copies of the same ten million, one after the other in time, each with ids and people of its own.
Every run is a process of its own. Reading and writing alone is the limit: it maps nothing, knows no duplicates and
keeps the order that is there.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from rich.console import Console

from shoplens.files import read_json, whole_folder, write_json

ROOT = Path(__file__).parents[1]
SIMULATED = 10_000_000  # the most that is simulated
EVENTS_A_USER, DAYS, SEED = 50, 240, 7
DIRT = {
    "duplicate": 0.01,
    "id_with_other_content": 0.001,
    "bad_time": 0.001,
    "missing_user": 0.001,
    "bad_number": 0.001,
    "out_of_order": 0.01,
    "late": 0.005,
}
console = Console(width=120)


@dataclass(frozen=True)
class Run:
    """One way over one log, and what it took."""

    way: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_gb: float


def _simulated(rows: int, folder: Path) -> Path:
    from simulator.plan import Plan
    from simulator.run import simulate

    out = folder / f"log-{rows}"
    if not (out / "simulation.json").is_file():
        start = datetime(2025, 1, 1, tzinfo=UTC).date()
        simulate(Plan(rows // EVENTS_A_USER, max(rows // 500, 1000), DAYS, SEED, start, rows, DIRT, 0.0), out)
    return out


def _copies(log: Path, count: int, out: Path) -> None:
    """Write `count` copies of a simulated shop into one, each later and of other people than the one before."""

    def own(column: str, copy: int) -> pl.Expr:
        return (pl.col(column) + f"-{copy}").alias(column)

    def later(column: str, copy: int) -> pl.Expr:
        time_ = pl.col(column).str.to_datetime("%Y-%m-%d %H:%M:%S.%3f", strict=False) + pl.duration(days=DAYS * copy)
        return pl.coalesce(time_.dt.to_string("%Y-%m-%d %H:%M:%S%.3f"), column).alias(column)

    ids = {"log": ("id", "customer", "visitor", "visit", "order_no"), "customers": ("customer",)}
    for table, columns in (ids | {"promos": ("customer", "promo"), "products": ()}).items():
        rows = pl.scan_parquet(log / f"{table}.parquet")
        times = ("ts", "received_at") if table == "log" else ()
        parts = [
            rows.with_columns(*(own(one, n) for one in columns), *(later(one, n) for one in times))
            for n in range(count if columns else 1)
        ]
        pl.concat(parts).sink_parquet(out / f"{table}.parquet", row_group_size=1 << 17)


def log_of(rows: int, folder: Path) -> Path:
    """Return a folder with a log of about so many rows and its side tables, made if it is not there."""
    simulated = _simulated(min(rows, SIMULATED), folder)
    if rows <= SIMULATED:
        return simulated
    out = folder / f"log-{rows}"
    if not out.exists():
        with whole_folder(out) as work:
            _copies(simulated, rows // SIMULATED, work)
    return out


def _ours(log: Path, out: Path) -> int:
    """Run the stage; return the rows of the log."""
    from events.stages import ingest
    from shoplens.params import load_params
    from shoplens.settings import Settings

    (out / "raw").mkdir(parents=True)
    for path in log.glob("*.parquet"):
        (out / "raw" / path.name).symlink_to(path)
    found = load_params(ROOT / "params.yaml")
    data = {"source": str(log), "mapping": "events/mappings/simulated.yaml", "as_of": None, "user_share": 1.0}
    params = found.model_copy(update={"data": found.data.model_copy(update=data)})
    ingest(params, Settings(root=ROOT, outs=out))
    account = read_json(out / "events/account.json")["tables"]["log.parquet"]
    rows = pl.scan_parquet(log / "log.parquet").select(pl.len()).collect().item()
    if account["rows_in"] != rows:
        raise SystemExit(f"account: {account['rows_in']} rows in, the log has {rows}")
    return int(rows)


def _polars(out: Path) -> int:
    """Read and write what the stage has left."""
    events = out / "events/events.parquet"
    pl.scan_parquet(events).sink_parquet(out / "again.parquet", row_group_size=1 << 17)
    return int(pl.scan_parquet(events).select(pl.len()).collect().item())


def _one(way: str, log: Path, out: Path) -> Run:
    """Run one way in this process."""
    started = time.monotonic()
    rows = _ours(log, out) if way == "shoplens" else _polars(out)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.monotonic() - started
    return Run(way, rows, round(seconds, 1), round(used.ru_utime + used.ru_stime, 1), round(used.ru_maxrss / 1e6, 2))


def _apart(way: str, log: Path, out: Path) -> Run:
    """Run one way in a process of its own."""
    command = [sys.executable, "-m", "bench.ingest", "--one", way, str(log), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def table_of(runs: list[Run]) -> str:
    """Return the runs as a table for a document."""
    lines = ["| rows | way | seconds | CPU seconds | rows/s | peak memory (GB) |", "|---|---|---|---|---|---|"]
    for run in runs:
        rate = f"{run.rows / run.seconds:,.0f}"
        lines.append(f"| {run.rows:,} | {run.way} | {run.seconds} | {run.cpu_seconds} | {rate} | {run.peak_gb} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, SIMULATED], help="About so many rows a log.")
    parser.add_argument("--folder", type=Path, help="Where logs are made and kept; else they are removed again.")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "LOG", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way, log, out = given.one
        print(json.dumps(asdict(_one(way, Path(log), Path(out)))))  # noqa: T201  (read by the process above)
        return
    runs = []
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=given.folder) as name:
        folder = given.folder or Path(name)
        for rows in given.rows:
            log, out = log_of(rows, folder), Path(name) / f"outs-{rows}"
            runs += [_apart(way, log, out) for way in ("shoplens", "polars: read, write")]
            console.print(runs[-2:])
    console.print(table_of(runs))
    write_json(ROOT / "var/bench/ingest.json", {"cores": os.cpu_count(), "runs": [asdict(run) for run in runs]})


if __name__ == "__main__":
    main()
