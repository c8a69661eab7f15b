"""`make bench-ingest`: compare the stage `ingest` with Polars reading and writing the same columns of a simulated log.

The log contains dirt (duplicates, conflicting IDs, late and unordered rows, wrong values). Above ten million rows, it
consists of consecutive copies of the same ten million, each with its own IDs and people. Every run is a separate
process. Reading and writing alone is the lower bound: it does not map, deduplicate or sort.
"""

import argparse
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from bench.events import SIMULATED, simulated
from bench.harness import ROOT, apart, console, markdown, measured
from shoplens.files import read_json, whole_folder, write_json

EVENTS_PER_USER, DAYS = 50, 240
OURS, POLARS = "shoplens", "polars: read, write"
DIRT = {
    "duplicate": 0.01,
    "id_with_other_content": 0.001,
    "bad_time": 0.001,
    "missing_user": 0.001,
    "bad_number": 0.001,
    "out_of_order": 0.01,
    "late": 0.005,
}


@dataclass(frozen=True)
class Run:
    """Time and memory that one ingestion method took for one log."""

    way: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_gb: float


def _copies(log: Path, count: int, out: Path) -> None:
    """Combine `count` copies of a simulated shop, each at a later time and with different people."""

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
    """Return a folder with a log of about `rows` rows and its side tables, built if it does not exist."""
    once = min(rows, SIMULATED)
    shop = simulated(
        folder / f"log-{once}", once, users=once // EVENTS_PER_USER, items=max(once // 500, 1000), days=DAYS, dirt=DIRT
    )
    if rows <= SIMULATED:
        return shop
    out = folder / f"log-{rows}"
    if not out.exists():
        with whole_folder(out) as work:
            _copies(shop, rows // SIMULATED, work)
    return out


def _ingest(log: Path, out: Path) -> None:
    """Run the stage `ingest` on a log, and check that its account covers every row."""
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
    if account["rows_in"] != _rows(log / "log.parquet"):
        raise SystemExit(f"account: {account['rows_in']} rows in, the log has {_rows(log / 'log.parquet')}")


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _run(way: str, log: Path, out: Path) -> Run:
    """Run one method in this process; Polars reads and writes the output of the stage."""
    events = out / "events/events.parquet"
    if way == OURS:
        rows, took = _rows(log / "log.parquet"), measured(lambda: _ingest(log, out))
    else:
        again = pl.scan_parquet(events)
        took = measured(lambda: again.sink_parquet(out / "again.parquet", row_group_size=1 << 17))
        rows = _rows(events)
    cpu = time.process_time()  # of the whole process
    return Run(way, rows, round(took.seconds, 1), round(cpu, 1), round(took.peak_gb, 2))


def table(runs: list[Run]) -> str:
    """Return the runs as a Markdown table."""
    rows = [
        (f"{r.rows:,}", r.way, f"{r.seconds}", f"{r.cpu_seconds}", f"{r.rows / r.seconds:,.0f}", f"{r.peak_gb}")
        for r in runs
    ]
    return markdown(("rows", "way", "seconds", "CPU seconds", "rows/s", "peak memory (GB)"), rows)


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1_000_000, SIMULATED], help="Approximate number of rows per log."
    )
    parser.add_argument("--folder", type=Path, help="Folder in which logs are kept; by default they are removed.")
    given = parser.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=given.folder) as name:
        folder = given.folder or Path(name)
        for rows in given.rows:
            log, out = log_of(rows, folder), Path(name) / f"outs-{rows}"
            runs += filter(None, [apart(_run, way, log, out) for way in (OURS, POLARS)])
            console.print(runs[-2:])
    console.print(table(runs))
    write_json(ROOT / "var/bench/ingest.json", {"cores": os.cpu_count(), "runs": [asdict(run) for run in runs]})


if __name__ == "__main__":
    main()
