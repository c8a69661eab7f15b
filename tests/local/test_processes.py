import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shoplens.errors import PortInUseError, SettingsError
from shoplens.local.demo import set_device
from shoplens.local.ports import port_setting, require_free
from shoplens.local.processes import end_all, leader, marked, start
from shoplens.settings import Settings

# A parent that starts a child, and both stay.
TREE = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path):
    found = Settings(root=tmp_path)
    yield found
    end_all(found)


def wait_for(count: int, settings: Settings) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while len(found := [process for process, _ in marked(settings)]) != count:
        assert time.monotonic() < deadline, f"{len(found)} processes instead of {count}"
        time.sleep(0.05)
    return found


def test_stop_ends_children_too_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    other = Settings(root=tmp_path / "other")
    start(settings, "part", [sys.executable, "-c", TREE], dict(os.environ))
    start(other, "part", [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ))
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        wait_for(2, settings)
        assert end_all(settings) == 2
        assert marked(settings) == []
        assert stranger.poll() is None
        assert leader(other, "part") is not None
    finally:
        stranger.kill()
        stranger.wait()
        end_all(other)


def test_orphans_of_a_killed_parent_are_found(settings: Settings) -> None:
    parent = start(settings, "part", [sys.executable, "-c", TREE], dict(os.environ))
    wait_for(2, settings)
    os.kill(parent.pid, signal.SIGKILL)
    os.waitpid(parent.pid, 0)
    (orphan,) = wait_for(1, settings)
    assert leader(settings, "part") is None
    assert end_all(settings, {"other part"}) == 0
    assert end_all(settings, {"part"}) == 1
    assert not orphan.is_running()


def test_a_process_that_hides_its_environment_is_found_by_its_session(settings: Settings) -> None:
    hide = ["env", "-i", sys.executable, "-c", "import time; time.sleep(60)"]
    start(settings, "part", hide, dict(os.environ))
    wait_for(1, settings)
    assert end_all(settings) == 1


def test_one_that_ignores_sigterm_is_killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoplens.local.processes._GRACE_SECONDS", 1.0)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    start(settings, "part", [sys.executable, "-c", stubborn], dict(os.environ))
    log = settings.var_dir / "run/part.log"
    deadline = time.monotonic() + 20
    while "ready" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert end_all(settings) == 1
    assert marked(settings) == []


def test_a_pid_file_of_an_earlier_boot_names_nobody(settings: Settings) -> None:
    run = settings.var_dir / "run"
    run.mkdir(parents=True)
    (run / "part.pid").write_text(f"{os.getpid()} 1.0")
    assert leader(settings, "part") is None
    (run / "part.pid").write_text("torn")
    assert leader(settings, "part") is None


def test_a_port_in_use_is_said_with_the_way_out() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"AIRFLOW_PORT: port {port} .* AIRFLOW_PORT=… make demo"):
            require_free("AIRFLOW_PORT", port)
    require_free("AIRFLOW_PORT", port)


@pytest.mark.parametrize("value", ["", "web", "0", "70000", "-1"])
def test_a_wrong_port_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SERVICE_PORT", value)
    with pytest.raises(SettingsError, match=f"SERVICE_PORT.*{value!r}"):
        port_setting("SERVICE_PORT", 3000)


def test_the_device_is_set_and_comments_stay(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (root / "params.yaml").read_text()
    path.write_text(before)
    set_device(path, "gpu")
    changed = [(a, b) for a, b in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert "device: gpu" in changed[0][1]
    assert "#" in changed[0][1]
    set_device(path, "cpu")
    assert path.read_text() == before


def test_the_command_says_a_port_in_use_and_starts_nothing(tmp_path: Path) -> None:
    import socket

    (tmp_path / "params.yaml").write_text("seed: 1\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {**os.environ, "SHOPLENS_ROOT": str(tmp_path), "SERVICE_PORT": str(taken.getsockname()[1])}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment["AIRFLOW_PORT"] = str(free.getsockname()[1])
        result = subprocess.run(["shoplens", "demo"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "PortInUseError: SERVICE_PORT" in result.stderr
    assert not (tmp_path / "var").exists(), "nothing was started"
