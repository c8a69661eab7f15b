import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shoplens.errors import LocalRunError, PortInUseError, SettingsError
from shoplens.local.airflow import COMPONENTS, airflow_environment
from shoplens.local.demo import after_interrupt, choose_device, set_device
from shoplens.local.ports import Ports, choose_ports, keep_ports, port_setting, require_free
from shoplens.local.processes import _boot, _born, end_all, leader, marked, start
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


def forge(settings: Settings, pid: int, born: int, boot: str) -> Path:
    """A pid file as an earlier platform may have left it."""
    path = settings.var_dir / "run/part.pid"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{pid} {born} {boot}")
    return path


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody's process that leads a session of its own."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("earlier", ["another boot", "another birth", "no birth"])
def test_a_stranger_with_the_number_of_an_old_component_lives_on(
    settings: Settings, stranger: subprocess.Popen[bytes], earlier: str
) -> None:
    born, boot = _born(stranger.pid), _boot()
    pid_file = {
        "another boot": lambda: forge(settings, stranger.pid, born, "00000000-0000-0000-0000-000000000000"),
        "another birth": lambda: forge(settings, stranger.pid, born - 1, boot),  # a container that was restarted
        "no birth": lambda: forge(settings, stranger.pid, "1.0", ""),  # as files were before they held the boot
    }[earlier]()
    assert leader(settings, "part") is None
    assert marked(settings) == []
    assert end_all(settings) == 0
    assert stranger.poll() is None
    assert not pid_file.exists()


def test_a_strangers_session_without_its_leader_is_not_taken_for_ours(settings: Settings) -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], start_new_session=True, stdout=subprocess.PIPE)
    orphan = psutil.Process(int(shell.stdout.readline()))
    shell.wait()
    try:
        assert os.getsid(orphan.pid) == shell.pid
        forge(settings, shell.pid, 1, _boot())
        assert marked(settings) == []
        assert end_all(settings) == 0
        assert orphan.is_running()
    finally:
        orphan.kill()


# A leader that starts a child without our mark, which starts another that writes elsewhere.
HIDDEN = """
import subprocess, sys, time
inner = "import subprocess, time; subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", inner], env={"PATH": "/usr/bin:/bin"})
time.sleep(60)
"""


def test_orphans_that_hide_their_environment_are_found_by_the_log_they_write_and_by_their_parent(
    settings: Settings,
) -> None:
    parent = start(settings, "part", [sys.executable, "-c", HIDDEN], dict(os.environ))
    wait_for(3, settings)
    os.kill(parent.pid, signal.SIGKILL)
    os.waitpid(parent.pid, 0)
    wait_for(2, settings)
    assert end_all(settings) == 2


def test_pid_files_go_with_what_was_ended(settings: Settings) -> None:
    for part in ("one", "two"):
        start(settings, part, ["sleep", "60"], dict(os.environ))
    run = settings.var_dir / "run"
    assert end_all(settings, {"one"}) == 1
    assert [path.name for path in run.glob("*.pid")] == ["two.pid"]
    assert leader(settings, "two") is not None
    assert end_all(settings) == 1
    assert list(run.glob("*.pid")) == []


def test_a_torn_pid_file_names_nobody(settings: Settings) -> None:
    forge(settings, os.getpid(), _born(os.getpid()), _boot()).write_text("torn")
    assert leader(settings, "part") is None


def test_what_goes_on_after_an_interrupt_is_said(settings: Settings) -> None:
    assert after_interrupt(settings) == "interrupted: nothing is running; `make demo` starts again"
    keep_ports(settings, Ports(18080, 13000))
    start(settings, COMPONENTS[0], ["sleep", "60"], dict(os.environ))
    assert "partly started; `make demo` starts the rest, `make stop` ends it" in after_interrupt(settings)
    for part in COMPONENTS[1:]:
        start(settings, part, ["sleep", "60"], dict(os.environ))
    assert "Airflow at http://127.0.0.1:18080 and its run continue" in after_interrupt(settings)


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


@pytest.fixture
def params(root: Path, settings: Settings) -> Path:
    path = settings.root / "params.yaml"
    path.write_text((root / "params.yaml").read_text().replace("device: gpu", "device: cpu"))
    return path


def test_the_device_is_set_and_comments_stay(params: Path) -> None:
    before = params.read_text()
    assert set_device(params, "gpu")
    changed = [(a, b) for a, b in zip(before.splitlines(), params.read_text().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert "device: gpu" in changed[0][1]
    assert "#" in changed[0][1]
    assert not set_device(params, "gpu")
    assert set_device(params, "cpu")
    assert params.read_text() == before


@pytest.mark.parametrize("without", ["", "0"])  # what make exports without GPU=1, and with GPU=0
def test_a_gpu_run_is_undone_by_the_next_run_without_it(
    settings: Settings, params: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    before = params.read_text()
    monkeypatch.setenv("SHOPLENS_GPU", "1")
    choose_device(settings)
    choose_device(settings)
    assert "device: gpu" in params.read_text()
    monkeypatch.setenv("SHOPLENS_GPU", without)
    choose_device(settings)
    assert params.read_text() == before


def test_a_gpu_that_a_person_chose_stays(settings: Settings, params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_device(params, "gpu")
    for value in ("", "0", "1", ""):
        monkeypatch.setenv("SHOPLENS_GPU", value)
        choose_device(settings)
        assert "device: gpu" in params.read_text()


@pytest.mark.parametrize("name", ["AIRFLOW_PORT", "SERVICE_PORT"])
def test_a_running_platform_keeps_its_ports(settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable in ("AIRFLOW_PORT", "SERVICE_PORT"):
        monkeypatch.delenv(variable, raising=False)
    keep_ports(settings, Ports(18080, 13000))
    assert choose_ports(settings, running=True) == Ports(18080, 13000)
    assert choose_ports(settings, running=False) == Ports(8080, 3000)
    monkeypatch.setenv(name, "9999")
    with pytest.raises(LocalRunError, match="the platform is running on 18080 and 13000; leave the variables unset"):
        choose_ports(settings, running=True)
    assert 9999 in (choose_ports(settings, running=False).airflow, choose_ports(settings, running=False).service)


def test_secrets_are_made_whole_kept_and_private(settings: Settings) -> None:
    first = airflow_environment(settings, 8080, 3000)
    assert airflow_environment(settings, 8080, 3000) == first
    files = [path for path in (settings.var_dir / "airflow").iterdir() if path.is_file()]
    assert {path.name for path in files} == {"passwords.json", "secret_key", "jwt_secret", "fernet_key"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    # A Fernet key is 32 bytes in URL-safe base64.
    assert len(base64.urlsafe_b64decode(first["AIRFLOW__CORE__FERNET_KEY"])) == 32


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
    assert not (tmp_path / "var/run").exists(), "nothing was started"
