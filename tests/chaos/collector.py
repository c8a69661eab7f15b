"""Kills of the collector: what it answered is in the lake and online, once, whatever was killed meanwhile."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from events.contract import EVENT_SCHEMA
from tests.chaos.kills import Killed, Reference, kill
from tests.chaos.world import PROGRAM, World

_PATIENCE = 120.0
_REQUEST_EVENTS = 40


def requests_of(world: World, days: int) -> list[bytes]:
    """Return the last days of the validated events as bodies of requests, in the order of arrival."""
    events = pl.read_parquet(world.root / "outs/validated/events.parquet")
    last = events["event_time"].max()
    chosen = events.filter(pl.col("event_time") >= last - pl.duration(days=days)).sort("ingested_at", "event_id")
    bodies = []
    for part in chosen.iter_slices(_REQUEST_EVENTS):
        lines = [json.dumps(_posted(event)) for event in part.to_dicts()]
        bodies.append("\n".join(lines).encode())
    return bodies


def _posted(event: dict[str, Any]) -> dict[str, Any]:
    posted = {name: value for name, value in event.items() if value is not None and name in EVENT_SCHEMA}
    for name in ("event_time", "ingested_at"):
        posted[name] = posted[name].isoformat()
    posted["attributes"] = {pair["key"]: pair["value"] for pair in event["attributes"]}
    return posted


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Live:
    """A collector as a process, on a port of its own, while the block lasts."""

    def __init__(self, world: World) -> None:
        self._world, self.port = world, free_port()
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Live":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start it, under a shell, in a group of its own."""
        collect = [PROGRAM, "collect", "--port", str(self.port), "--compact-seconds", "0.3"]
        log = (self._world.root / "collector.log").open("ab")
        self._started.append(
            subprocess.Popen(
                ["sh", "-c", '"$@"; exit $?', "collector", *collect],
                cwd=self._world.root,
                env=self._world.environment,
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        )
        log.close()

    def kill(self, *, whole_tree: bool) -> bool:
        """Kill the one started last with SIGKILL; without its parent it may go on, and then keeps its place."""
        return kill(self._started[-1], whole_tree=whole_tree)

    def end(self) -> None:
        """Kill all that were started, orphans too."""
        for process in self._started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def send(self, body: bytes) -> bool:
        """Send events; return whether they were answered."""
        with suppress(httpx.HTTPError):
            answer = httpx.post(
                f"http://127.0.0.1:{self.port}/events",
                content=body,
                headers={"content-type": "application/x-ndjson"},
                timeout=10,
            )
            return answer.status_code == 200
        return False

    def insist(self, body: bytes) -> None:
        """Send events until they are answered."""
        end = time.monotonic() + _PATIENCE
        while not self.send(body):
            if time.monotonic() > end:
                raise TimeoutError((self._world.root / "collector.log").read_text()[-3000:])
            time.sleep(0.1)

    def drain(self) -> None:
        """Wait until all followers have passed the end of the log."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with suppress(httpx.HTTPError):
                status = httpx.get(f"http://127.0.0.1:{self.port}/status", timeout=10).json()
                if all(one["behind_records"] == 0 for one in status["followers"].values()):
                    return
            time.sleep(0.1)
        raise TimeoutError((self._world.root / "collector.log").read_text()[-3000:])


def _digests(world: World) -> str:
    return f"{world.digest('append')} {world.digest('materialize')}"


def undisturbed(world: World, bodies: list[bytes], scratch: Path) -> Reference:
    """Stream bodies into a copy of a materialized world, in peace."""
    copy = world.copy(scratch / "calm-collector")
    with Live(copy) as live:
        started = time.monotonic()
        for body in bodies:
            live.insist(body)
        live.drain()
        seconds = time.monotonic() - started
    digest = _digests(copy)
    shutil.rmtree(copy.root)
    return Reference(digest, seconds)


def collector_round(world: World, bodies: list[bytes], calm: Reference, chance: random.Random, scratch: Path) -> Killed:
    """Stream bodies, kill the collector at a random moment, start it again, send on from the unanswered one."""
    copy = world.copy(scratch / f"collector-{chance.getrandbits(32):08x}")
    whole_tree, after = chance.random() < 0.5, chance.uniform(0.0, calm.seconds)
    with Live(copy) as live:
        started, in_time, killed = time.monotonic(), False, False
        for body in bodies:
            if not killed and time.monotonic() - started >= after:
                in_time, killed = live.kill(whole_tree=whole_tree), True
                live.start()
            live.insist(body)
        if not killed:
            in_time = live.kill(whole_tree=whole_tree)
            live.start()
        live.insist(bodies[-1])  # once more: a sender without an answer sends again
        live.drain()
    equal = _digests(copy) == calm.digest
    if equal:
        shutil.rmtree(copy.root)
    return Killed("collector", whole_tree, after, in_time, equal)
