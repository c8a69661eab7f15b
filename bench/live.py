"""`make bench-live`: throughput of one collector, and the delay from an accepted event to the updated online feature.

One or eight senders post events of a simulated shop to `shoplens collect` over HTTP; every event is on disk before the
response. Sustained throughput includes the time until the last event is in the online store. The delay runs from the
response until another process reads the event in the user's list, at rest and under half of the sustained load.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from features.materialize import materialize
from features.online_stores.rows import RowStore
from features.store import open_rows
from shoplens.files import read_json, write_json
from tests.replay.__main__ import simulated
from tests.replay.replay import collecting
from tests.replay.shop import ROOT, Project

_NDJSON = {"content-type": "application/x-ndjson"}
_PROBES = 300
console = Console(width=120)


@dataclass(frozen=True)
class Load:
    """A sending method and its result."""

    senders: int
    events_a_request: int
    events: int
    answered_per_second: float
    sustained_per_second: float
    peak_mb: float


@dataclass(frozen=True)
class Delay:
    """Milliseconds from a response to the updated feature."""

    load_per_second: float
    probes: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True)
class Sender:
    """Generates requests with `size` new events each, spread over the users, for one URL."""

    address: str
    size: int
    users: int
    start: datetime

    def body(self, sender: int, request: int) -> bytes:
        """Return one request, as NDJSON."""
        lines = []
        for number in range(request * self.size, (request + 1) * self.size):
            event = {
                "event_id": f"b{sender}-{number}-{self.size}-{self.start:%H%M%S%f}",
                "event_time": (self.start + timedelta(milliseconds=number)).isoformat(),
                "event_name": "view_item",
                "user_id": f"c{(number * 7919 + sender) % self.users}",
                "item_id": str(number % 997),
                "session_id": f"s{number % self.users}",
                "price": 9.5,
                "url": "/item",
            }
            lines.append(json.dumps(event).encode())
        return b"\n".join(lines)

    def send(self, sender: int, seconds: float, pause: float = 0.0) -> int:
        """Post requests for a given time; return the number of accepted events."""
        accepted, request, until = 0, 0, time.monotonic() + seconds
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while time.monotonic() < until:
                answer = client.post("/events", content=self.body(sender, request), headers=_NDJSON)
                if answer.status_code == 200:
                    accepted += answer.json()["accepted"]
                    request += 1
                time.sleep(pause)
        return accepted


def _drained(address: str) -> bool:
    push = httpx.get(f"{address}/status", timeout=60).json()["followers"]["push"]
    return push["behind_records"] == 0 and push["problem"] is None


def _collector() -> psutil.Process:
    return next(one for one in psutil.Process().children(recursive=True) if "collect" in one.cmdline())


def measure_load(sender: Sender, senders: int, seconds: float) -> Load:
    """Send as fast as responses arrive, from separate processes, then wait until all events are pushed."""
    with ProcessPoolExecutor(senders) as pool:
        began = time.monotonic()
        events = sum(pool.map(partial(sender.send, seconds=seconds), range(senders)))
        answered = time.monotonic() - began
    while not _drained(sender.address):
        time.sleep(0.01)
    pushed = time.monotonic() - began
    peak = _collector().memory_info().rss / 2**20
    return Load(senders, sender.size, events, events / answered, events / pushed, peak)


def _probe(client: httpx.Client, online: RowStore, number: int, start: datetime) -> float:
    """Send one event; return the seconds from the response until it is read online."""
    user, event_id = f"c{number % 50}", f"probe-{number}-{start:%H%M%S%f}"
    moment = (start + timedelta(milliseconds=number)).isoformat()
    event = {"event_id": event_id, "event_time": moment, "event_name": "view_item", "user_id": user, "item_id": "1"}
    client.post("/events", json=event).raise_for_status()
    answered = time.perf_counter()
    view = online.views()["recent_events"]
    while True:
        (found,) = online.read([view], [user])
        if user in found and event_id in found[user].values[0]:
            return time.perf_counter() - answered


def measure_delay(project: Project, sender: Sender, load: float) -> Delay:
    """Measure the delay at rest, or while another process posts `load` events per second."""
    delays: list[float] = []
    posting = multiprocessing.Process(target=sender.send, args=(0, 3600.0, sender.size / max(load, 1.0)), daemon=True)
    if load:
        posting.start()
    with httpx.Client(base_url=sender.address, timeout=60) as client, closing(open_rows(project.settings)) as online:
        for number in range(_PROBES):
            delays.append(_probe(client, online, number, sender.start) * 1000)
            time.sleep(0.01)
    if load:
        posting.kill()
        posting.join()
    cuts = statistics.quantiles(delays, n=100)
    return Delay(load, len(delays), cuts[49], cuts[98], max(delays))


def main() -> None:
    """Run the benchmark, print the results, and write them to var/bench/live.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="of the simulated shop before")
    parser.add_argument("--seconds", type=float, default=15.0, help="a load lasts")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shoplens-bench-") as folder:
        validated = simulated(Path(folder) / "shop", chosen.events)
        project = Project.make(Path(folder) / "live").use_mapping("events/mappings/simulated.yaml")
        (project.settings.outs_dir).mkdir(parents=True)
        validated.rename(project.settings.outs_dir / "validated")
        project.build()
        users = materialize(project.settings).users
        high_water = datetime.fromisoformat(
            read_json(project.settings.outs_dir / "validated/dataset.json")["high_water"]
        )
        with collecting(project) as address:
            start = high_water + timedelta(minutes=1)
            loads, delays = [], []
            for senders, size in ((1, 1), (8, 1), (1, 100), (2, 500)):
                loads.append(measure_load(Sender(address, size, users, start), senders, chosen.seconds))
                console.print(loads[-1])
                start += timedelta(minutes=20)
            half = max(load.sustained_per_second for load in loads) / 2
            for load in (0.0, half):
                delays.append(measure_delay(project, Sender(address, 100, users, start), load))
                console.print(delays[-1])
                start += timedelta(minutes=20)
    report: dict[str, Any] = {"cores": os.cpu_count(), "users": users}
    report |= {"loads": [asdict(one) for one in loads], "delays": [asdict(one) for one in delays]}
    write_json(ROOT / "var/bench/live.json", report)


if __name__ == "__main__":
    main()
