"""`shoplens collect` as a process, and the followers that it runs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.collector import followers
from events.collector.intake import Intake
from events.collector.log import EventLog
from events.collector.records import parse_body
from events.lake import Snapshot
from expectations.suites import failing_reasons
from features.live import collect
from tests.events.collector.conftest import event

pytestmark = pytest.mark.stores
ROOT = Path(__file__).resolve().parents[3]
PROGRAM = str(Path(sys.executable).with_name("shoplens"))


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_collector_first_writes_its_events_to_the_lake(
    new_shop: Callable[..., Any], number: signal.Signals
) -> None:
    settings = new_shop().settings
    shutil.copytree(ROOT / "events/mappings", settings.root / "events/mappings")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [PROGRAM, "collect", "--port", str(port), "--no-online", "--compact-seconds", "3600"]
    environment = {**os.environ, "SHOPLENS_CLOCK": "wall", "SHOPLENS_ROOT": str(settings.root)}
    process = subprocess.Popen(command, cwd=settings.root, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: ready(address) or process.poll() is not None)
        assert httpx.post(f"{address}/events", json=event("a")).json()["accepted"] == 1
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert [day["event_id"].to_list() for day in Snapshot(settings.lake_dir).each_day()] == [["a"]]


def test_old_records_leave_the_log_of_a_quiet_shop(
    new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = new_shop().settings
    shutil.copytree(ROOT / "events/mappings", settings.root / "events/mappings")
    monkeypatch.setattr(collect, "_KEPT_SECONDS", 1.0)
    monkeypatch.setattr(followers, "_CHECK_SECONDS", 0.2)
    with ExitStack() as stack:
        log = stack.enter_context(EventLog(settings.live_dir / "log"))
        collect._follow(log, settings, settings.lake_dir, 0.0, False, stack)
        intake = Intake(log, failing_reasons)
        intake.take(parse_body(json.dumps(event("a")).encode()))
        until(lambda: log.begin == 1)
    assert [day["event_id"].to_list() for day in Snapshot(settings.lake_dir).each_day()] == [["a"]]
