"""`make bench-live`: events a second through one collector, and from an accepted event to the changed feature online.

A sender (or eight) posts events of a simulated shop to `shoplens collect` over HTTP; every event is on disk before it
is answered. Sustained means: until the last event is in the online store, too. The delay is measured from the answer to
the moment at which another process reads the event in the user's list, at rest and under half of the sustained load.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
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
    """One way of sending, and what it came to."""

    senders: int
    events_a_request: int
    events: int
    answered_per_second: float
    sustained_per_second: float
    peak_mb: float


@dataclass(frozen=True)
class Delay:
    """Milliseconds from an answer to the changed feature."""

    load_per_second: float
    probes: int
    p50: float
    p99: float
    worst: float


def body(sender: int, request: int, size: int, users: int, start: datetime) -> bytes:
    """Return one request of new events, spread over the users."""
    lines = []
    for n in range(size):
        number = request * size + n
        moment = start + timedelta(milliseconds=number)
        event = {
            "event_id": f"b{sender}-{number}-{size}-{start:%H%M%S%f}",
            "event_time": moment.isoformat(),
            "event_name": "view_item",
            "user_id": f"c{(number * 7919 + sender) % users}",
            "item_id": str(number % 997),
            "session_id": f"s{number % users}",
            "price": 9.5,
            "url": "/item",
        }
        lines.append(json.dumps(event).encode())
    return b"\n".join(lines)


def _send(
    address: str, sender: int, size: int, users: int, start: datetime, seconds: float, pause: float, done: Any
) -> None:
    """Post requests for a time; put the count of answered events into `done`."""
    answered, request = 0, 0
    until = time.monotonic() + seconds
    with httpx.Client(base_url=address, timeout=60) as client:
        while time.monotonic() < until:
            answer = client.post("/events", content=body(sender, request, size, users, start), headers=_NDJSON)
            if answer.status_code == 200:
                answered += answer.json()["accepted"]
                request += 1
            time.sleep(pause)
    done.put(answered)


@contextmanager
def sending(
    address: str, senders: int, size: int, users: int, start: datetime, seconds: float, pause: float
) -> Iterator[Any]:
    """Run senders in processes of their own; yield the queue of their counts."""
    done: Any = multiprocessing.Queue()
    arguments = [(address, n, size, users, start, seconds, pause, done) for n in range(senders)]
    processes = [multiprocessing.Process(target=_send, args=one, daemon=True) for one in arguments]
    for process in processes:
        process.start()
    yield done
    for process in processes:
        process.join()


def _drained(address: str) -> bool:
    push = httpx.get(f"{address}/status", timeout=60).json()["followers"]["push"]
    return push["behind_records"] == 0 and push["problem"] is None


def _collector() -> psutil.Process:
    return next(one for one in psutil.Process().children(recursive=True) if "collect" in one.cmdline())


def measure_load(address: str, senders: int, size: int, users: int, start: datetime, seconds: float) -> Load:
    """Send as fast as answers come, then wait until all is pushed."""
    began = time.monotonic()
    with sending(address, senders, size, users, start, seconds, 0.0) as done:
        events = sum(done.get() for _ in range(senders))
    answered = time.monotonic() - began
    while not _drained(address):
        time.sleep(0.01)
    pushed = time.monotonic() - began
    peak = _collector().memory_info().rss / 2**20
    return Load(senders, size, events, events / answered, events / pushed, peak)


def _probe(client: httpx.Client, online: RowStore, number: int, start: datetime) -> float:
    """Send one event; return the seconds from its answer until it is read online."""
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


def measure_delay(project: Project, address: str, users: int, start: datetime, load: float) -> Delay:
    """Probe at rest, or while senders post `load` events a second."""
    delays: list[float] = []

    def run() -> None:
        with httpx.Client(base_url=address, timeout=60) as client, closing(open_rows(project.settings)) as online:
            for number in range(_PROBES):
                delays.append(_probe(client, online, number, start) * 1000)
                time.sleep(0.01)

    prober = threading.Thread(target=run)
    if load:
        size = 100
        with sending(address, 1, size, users, start, 3600.0, size / load):
            prober.start()
            prober.join()
            for child in multiprocessing.active_children():
                child.kill()
    else:
        prober.start()
        prober.join()
    cuts = statistics.quantiles(delays, n=100)
    return Delay(load, len(delays), cuts[49], cuts[98], max(delays))


def main() -> None:
    """Measure, print, and keep the figures in var/bench/live.json."""
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
            loads = []
            for senders, size in ((1, 1), (8, 1), (1, 100), (2, 500)):
                loads.append(measure_load(address, senders, size, users, start, chosen.seconds))
                console.print(loads[-1])
                start += timedelta(minutes=20)
            half = max(load.sustained_per_second for load in loads) / 2
            delays = []
            for load in (0.0, half):
                delays.append(measure_delay(project, address, users, start, load))
                console.print(delays[-1])
                start += timedelta(minutes=20)
    report = {
        "cores": os.cpu_count(),
        "users": users,
        "loads": [asdict(x) for x in loads],
        "delays": [asdict(x) for x in delays],
    }
    write_json(ROOT / "var/bench/live.json", report)


if __name__ == "__main__":
    main()
