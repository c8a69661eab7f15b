"""The proof that there is no skew: a day through the live path, and the same in batch at the same knowledge time.

The first part of the events is the shop's past: features, online store and lake are made of it. The last day is then
sent to a collector over HTTP in the order in which it became known. Compared are, value for value: the last N events
and the fast features of every user, read online, with those of the batch; and every snapshot, computed from the lake
that the collector filled and read online after it was materialized, with that of the batch.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.lake import append_events, freeze_lake
from features.catalogue import Catalogue
from features.fast import FAST_FEATURES, fast_features
from features.histories import UserLog, recent_as_of
from features.materialize import materialize
from features.online import OnlineReader
from features.online_stores.rows import LISTS
from features.recent import RecentEvents
from features.store import open_rows
from features.visits import VISIT_FEATURES, visit_features
from tests.chaos.collector import free_port
from tests.replay.compare import Comparison
from tests.replay.shop import Project, Split

_REQUEST_EVENTS = 500
_PATIENCE = 300.0
_KEYS = ("user_id", "item_id", "event_timestamp")


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes:
        comparison: Values and differences.
        users: Users compared online.
        events: Events streamed.
        seconds: Time from the first event sent to the last one pushed.
    """

    comparison: Comparison
    users: int
    events: int
    seconds: float


def bodies(events: pl.DataFrame) -> Iterator[bytes]:
    """Yield requests of NDJSON, as a shop's own tracker would send them."""
    for part in events.iter_slices(_REQUEST_EVENTS):
        yield b"\n".join(json.dumps(said(event)).encode() for event in part.to_dicts())


def said(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event to the contract as a sender says it."""
    told = {name: value for name, value in event.items() if value is not None}
    for name in ("event_time", "ingested_at"):
        told[name] = told[name].isoformat()
    told["attributes"] = {pair["key"]: pair["value"] for pair in event["attributes"] or ()}
    return told


@contextmanager
def collecting(project: Project) -> Iterator[str]:
    """Run `shoplens collect` of a project; yield its address."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("shoplens")),
        "collect",
        "--port",
        str(port),
        "--compact-seconds",
        "1",
    ]
    with (project.settings.root / "collector.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=project.settings.root, env=project.environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: httpx.get(f"{address}/readyz").status_code == 200, project)
        yield address
    finally:
        process.terminate()
        process.wait()


def _until(holds: Callable[[], bool], project: Project) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError((project.settings.root / "collector.log").read_text()[-3000:])


def stream(project: Project, events: pl.DataFrame) -> float:
    """Send events to a collector until all have had their effect; return the seconds that took."""

    def drained() -> bool:
        told = httpx.get(f"{address}/status").json()["followers"]
        return all(one["behind_records"] == 0 for one in told.values())

    with collecting(project) as address, httpx.Client(timeout=60) as client:
        started = time.monotonic()
        for body in bodies(events):
            answer = client.post(f"{address}/events", content=body, headers={"content-type": "application/x-ndjson"})
            answer.raise_for_status()
            told = answer.json()
            if told["accepted"] != len(told["events"]):
                raise AssertionError(
                    f"not accepted: {[one for one in told['events'] if one['status'] != 'accepted'][:3]}"
                )
        _until(drained, project)
        return time.monotonic() - started


def _live_world(root: Path, validated: Path, split: Split, mapping: str) -> Project:
    """Make the shop's past: features, online store and lake of what was known before."""
    live = Project.make(root).use_mapping(mapping)
    live.put(validated, split.before, split.start)
    live.build()
    materialize(live.settings)
    nothing = pl.DataFrame(schema=QUARANTINE_SCHEMA)
    append_events(live.settings.lake_dir, "user", split.before.select(list(EVENT_SCHEMA)), nothing, "the past")
    return live


def _compare_recent(found: Comparison, live: Project, batch: Project, events: pl.DataFrame, split: Split) -> list[str]:
    """Compare the last N events, the fast features and the visit features of every user, online and in batch."""
    folder = batch.settings.outs_dir / "features"
    catalogue = Catalogue.load(folder / "catalogue.parquet")
    expected = pl.read_parquet(folder / "recent_events.parquet").sort("user_id")
    users: list[str] = expected["user_id"].to_list()
    reader, now = OnlineReader(live.settings), np.datetime64(split.end.replace(tzinfo=None), "us")
    found.add("the moment of the store", "now", "store", reader.now(), now)
    with closing(open_rows(live.settings)) as rows:
        view = rows.views()["recent_events"]
        (stored,) = rows.read([view], users)
    for user, row in zip(users, expected.iter_rows(named=True), strict=True):
        values = dict(zip(view.names, stored[user].values, strict=True)) if user in stored else {}
        for name in LISTS:
            found.add("last N events, as stored", name, user, values.get(name), row[name])
    n = batch.params.features.last_n
    in_batch = recent_as_of(events, users, np.full(len(users), now), n, catalogue)
    nothing = recent_as_of(events.clear(), users[:1], np.array([now]), n, catalogue)
    log, nobody = (UserLog.from_events(one, catalogue) for one in (events, events.clear()))
    visits = visit_features(log.as_of(users, np.full(len(users), now), n), np.full(len(users), now))
    no_visits = visit_features(nobody.as_of(users[:1], np.array([now]), n), np.array([now]))
    # Training has no row of who was not active for so long; online, their last events are expired.
    alive = expected["event_timestamp"] >= split.end - timedelta(days=batch.params.features.active_days)
    for place, user in enumerate(users):
        state = reader.read(user, catalogue)
        online = nothing if state is None else state.history.window(n)
        one = in_batch.take(slice(place, place + 1)) if alive[place] else nothing
        for name in RecentEvents.__dataclass_fields__:
            read, wanted = (getattr(recent, name).tobytes() for recent in (online, one))
            found.add("last N events, as models read them", name, user, read, wanted)
        alone, fast = (fast_features(recent, np.array([now])) for recent in (online, one))
        for name in FAST_FEATURES:
            found.add("fast features", name, user, alone[name][0], fast[name][0])
        own = no_visits if state is None else visit_features(state.history.last(n), np.array([now]))
        for name in VISIT_FEATURES:
            wanted = visits[name][place] if alive[place] else no_visits[name][0]
            found.add("visit features", name, user, own[name][0], wanted)
    return users


def _compare_snapshots(found: Comparison, live: Project, batch: Project, users: list[str]) -> None:
    """Compare every view computed from the lake with the batch's, and what is then read online with both."""
    computed, expected = live.settings.outs_dir / "features", batch.settings.outs_dir / "features"
    for path in sorted(expected.glob("*.parquet")):
        left, right = pl.read_parquet(computed / path.name), pl.read_parquet(path)
        keys = [name for name in right.columns if name in _KEYS] or right.columns[:1]
        found.tables(f"{path.stem}, from the lake", left, right, keys)
    catalogue, reader = Catalogue.load(expected / "catalogue.parquet"), OnlineReader(live.settings)
    again = Project(batch.settings.model_copy(), batch.params)
    materialize(again.settings)
    other = OnlineReader(again.settings)
    for user in users:
        state, wanted = reader.read(user, catalogue), other.read(user, catalogue)
        for name, value in ({} if wanted is None else wanted.features).items():
            found.add("slow features, online", name, user, None if state is None else state.features.get(name), value)


def replay(root: Path, validated: Path, mapping: str, tell: Callable[[str], None]) -> Replayed:
    """Replay the last day of the events in `validated` (a stage's folder) in new projects below `root`."""
    events = pl.read_parquet(validated / "events.parquet")
    split = Split.last_day(events)
    tell(f"{events.height:,} events, the last day has {split.streamed.height:,}")
    batch = Project.make(root / "batch").use_mapping(mapping)
    batch.put(validated, events, split.end)
    batch.build()
    live = _live_world(root / "live", validated, split, mapping)
    seconds = stream(live, split.streamed)
    tell(f"streamed in {seconds:.1f} s")
    found = Comparison()
    users = _compare_recent(found, live, batch, events, split)
    frozen = root / "frozen"
    frozen.mkdir()
    freeze_lake(live.settings.lake_dir, frozen)
    collected = pl.read_parquet(frozen / "events.parquet")
    wanted = events.sort("event_time", "event_id").select(list(EVENT_SCHEMA))
    found.tables("events of the lake", collected.select(list(EVENT_SCHEMA)), wanted, ["event_id"])
    live.put(validated, collected, split.end)
    live.build()
    materialize(live.settings)
    _compare_snapshots(found, live, batch, users)
    return Replayed(found, len(users), split.streamed.height, seconds)
