"""`shoplens demo`, interrupted, killed and run again: real Airflow and DVC on a project of plain shell stages."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from shoplens.environment import tool_variables
from shoplens.local.processes import end_all, marked
from shoplens.settings import Settings

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(400)]

# `slow` is killed in its middle and quick when it is run again; what it prints looks like markup. The store's command
# then finds no real features. No stage is called `package`: the gate would load TensorFlow only to refuse the file.
YAML = """\
stages:
  slow:
    cmd: "echo '[/usr/lib] [a, b]'; test -e begun || { touch begun; sleep 60; }; mkdir -p outs; echo 1 > outs/slow"
    outs: [outs/slow]
  features: {cmd: cp outs/slow outs/features, deps: [outs/slow], outs: [outs/features]}
  last: {cmd: cp outs/features outs/last, deps: [outs/features], outs: [outs/last]}
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Iterator[Path]:
    if not (root / ".venv-airflow/bin/airflow").exists():
        pytest.skip("the orchestrator's environment is not there: make env")
    for name in (".venv", ".venv-airflow"):
        (tmp_path / name).symlink_to(root / name)
    shutil.copytree(root / "dags", tmp_path / "dags")
    constants = tmp_path / "dags/common/constants.py"
    text = constants.read_text()
    assert "timedelta(seconds=5)" in text
    constants.write_text(text.replace("timedelta(seconds=5)", "timedelta(0)"))  # it is tried again, without a rest
    shutil.copy(root / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(YAML)
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "remote", "add", "-d", "here", str(tmp_path / "remote")],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    yield tmp_path
    end_all(Settings(root=tmp_path))


@pytest.fixture
def environment(project: Path) -> dict[str, str]:
    return {
        **os.environ,
        **tool_variables(project),
        "SHOPLENS_ROOT": str(project),
        "AIRFLOW_PORT": free_port(),
        "SERVICE_PORT": free_port(),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    }


def shoplens(word: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["shoplens", word], env=environment, capture_output=True, text=True, check=False)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_interrupted_it_goes_on_and_killed_in_the_middle_it_is_run_again_and_ended(
    project: Path, environment: dict[str, str]
) -> None:
    settings = Settings(root=project)
    log = project / "first.log"
    with log.open("wb") as out:
        first = subprocess.Popen(["shoplens", "demo"], env=environment, stdout=out, stderr=out)
    wait_until(lambda: "computation.slow: running" in log.read_text() or first.poll() is not None)
    assert first.poll() is None, log.read_text()
    wait_until((project / "begun").exists)  # inside `sleep 60`, with DVC's locks held
    first.send_signal(signal.SIGINT)  # Ctrl-C ends the command; what it started is in sessions of its own
    assert first.wait(timeout=30) == 130
    base = f"http://127.0.0.1:{environment['AIRFLOW_PORT']}"
    assert log.read_text().splitlines()[-1] == (
        f"interrupted: Airflow at {base} and its run continue; `make demo` follows them again, `make stop` ends them"
    )
    assert "Traceback" not in log.read_text()

    with log.open("wb") as out:
        second = subprocess.Popen(["shoplens", "demo"], env=environment, stdout=out, stderr=out)
    wait_until(lambda: "computation.slow: running" in log.read_text() or second.poll() is not None)
    assert "is in progress, with the parameters it started with" in log.read_text(), "it follows the same run"
    assert "starting Airflow" not in log.read_text()
    second.kill()
    second.wait()
    # stopped first, so that all are gone at one moment: a scheduler that sees its worker go marks the run itself
    for ending in (signal.SIGSTOP, signal.SIGKILL):
        for process, _ in marked(settings):
            process.send_signal(ending)
    psutil.wait_procs([process for process, _ in marked(settings)], timeout=10)
    assert not (project / "outs/slow").exists()

    again = shoplens("demo", environment)
    assert "was interrupted; marked failed" in again.stdout, again.stdout + again.stderr
    assert "computation.push: success" in again.stdout, again.stdout + again.stderr
    assert (project / "outs/last").read_text() == "1\n"
    # The files are no real features: the task fails, its log is shown, and Airflow stays up to be looked at.
    assert again.returncode == 1
    assert "materialize.materialize failed; the end of its log:" in again.stderr
    assert "FeatureError" in again.stderr
    assert httpx.get(f"{base}/api/v2/version", trust_env=False).status_code == 200
    heard = [one for process, _ in marked(settings) for one in process.net_connections() if one.status == "LISTEN"]
    assert {one.laddr.ip for one in heard} == {"127.0.0.1"}, "loopback only"

    elsewhere = shoplens("demo", {**environment, "AIRFLOW_PORT": free_port()})
    assert elsewhere.returncode == 1
    assert f"the platform is running on {environment['AIRFLOW_PORT']}" in elsewhere.stderr
    unset = {name: value for name, value in environment.items() if not name.endswith("_PORT")}
    assert base in shoplens("status", unset).stdout

    ended = shoplens("stop", environment).stdout
    assert "api-server" in ended
    assert "scheduler" in ended
    assert marked(settings) == []
    assert "nothing was running" in shoplens("stop", environment).stdout
