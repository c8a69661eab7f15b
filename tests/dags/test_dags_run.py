"""Airflow itself runs the DAGs, on a small project whose stages are plain shell commands."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(400)]

YAML = """\
stages:
  one: {cmd: mkdir -p outs && echo 1 > outs/one, outs: [outs/one]}
  features: {cmd: cp outs/one outs/features, deps: [outs/one], outs: [outs/features]}
  package: {cmd: cp outs/features outs/package, deps: [outs/features], outs: [outs/package]}
  validate:
    cmd: mkdir -p var/data_docs && echo page > var/data_docs/index.html && cp outs/one outs/validated
    deps: [outs/one]
    outs: [outs/validated]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A DVC project of three stages, with the real DAG files and the real environment beside it."""
    folder = tmp_path_factory.mktemp("small")
    (folder / ".venv").symlink_to(root / ".venv")
    shutil.copytree(root / "dags", folder / "dags")
    (folder / "dvc.yaml").write_text(YAML)
    (folder / "params.yaml").write_text("seed: 1\n")
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "remote", "add", "-d", "here", str(folder / "remote")],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def dvc(project: Path, *arguments: str) -> str:
    return subprocess.run(["dvc", *arguments], cwd=project, capture_output=True, text=True, check=True).stdout


def test_the_computation_runs_every_stage_under_dvc_and_pushes(run_airflow: Callable, project: Path) -> None:
    # Data Docs are no out of DVC's: when they are gone, the stage that leaves them runs, and leaves the same outs.
    dvc(project, "repro", "validate")
    before = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert list(before) == ["one", "validate"]
    shutil.rmtree(project / "var/data_docs")

    said = run_airflow(
        ["db", "migrate"],
        ["pools", "set", "workspace", "1", "one"],
        ["dags", "test", "computation"],
        SHOPLENS_ROOT=str(project),
        AIRFLOW__CORE__DAGS_FOLDER=str(project / "dags"),
    )
    assert "Stage 'one' didn't change, skipping" in said
    assert "repro --single-item validate --force" in said
    assert (project / "var/data_docs/index.html").read_text() == "page\n"
    assert (project / "outs/package").read_text() == "1\n"
    lock = (project / "dvc.lock").read_text()
    stages = yaml.safe_load(lock)["stages"]
    assert set(stages) == {"one", "validate", "features", "package"}
    assert {name: stages[name] for name in before} == before
    assert "Running stage" not in dvc(project, "repro")
    assert (project / "dvc.lock").read_text() == lock
    assert any(path.is_file() for path in (project / "remote").rglob("*")), "what was made is in the remote"


def test_a_killed_dvc_leaves_no_lock_that_stops_the_next(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages: {slow: {cmd: 'test -e begun || { touch begun; sleep 30; }; echo 1 > out', outs: [out]}}"
    )
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    first = subprocess.Popen(["dvc", "repro"], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    again = subprocess.run(
        ["dvc", "repro", "--single-item", "slow"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out").read_text() == "1\n"


_OPERATOR = """
import sys
from airflow.sdk.exceptions import AirflowException
from common.operators import CommandOperator

def run(command, **more):
    return CommandOperator(task_id="t", command=command, **more).execute({"outlet_events": {}})

assert run(f"sh -c 'echo words; cat {sys.argv[1]}; exit 3'", refusal=3) == {"exit": 3, "accepted": False}
assert run("sh -c 'exit 3'", refusal=3) == {"exit": 3}
try:
    run("sh -c 'echo why; exit 4'", refusal=3)
except AirflowException as error:
    assert "ended with 4; its last line: why" in str(error), error
else:
    sys.exit("an exit status that is no answer must fail the task")
run(f"sh -c 'env > {sys.argv[2]}'")
"""

# What the worker of docker-compose.yml and the platform on one machine hold, by whose business it is.
_COMMANDS = {
    "SHOPLENS_PLATFORM": "/p",
    "SHOPLENS_PART": "scheduler",
    "SHOPLENS_ONLINE_STORE": "redis",
    "SHOPLENS_REDIS_URL": "redis://:s3cret@redis:6379/0",
    "SHOPLENS_SERVICE_URL": "http://service:3000",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "S3_ENDPOINT": "http://s3:8333",
    "DVC_NO_ANALYTICS": "1",
}
_AIRFLOWS = {
    "AIRFLOW__API_AUTH__JWT_SECRET": "s3cret",
    "AIRFLOW__CELERY__BROKER_URL": "redis://:s3cret@redis:6379/1",
    "AIRFLOW__CORE__FERNET_KEY": "eW91IHNob3VsZCBub3QgYmUgcmVhZGluZyB0aGlzISE=",
    "AIRFLOW_ADMIN_PASSWORD": "s3cret",
    "PGPASSWORD": "s3cret",
    "POSTGRES_PASSWORD": "s3cret",
}


def test_a_command_answers_refuses_or_fails_and_sees_nothing_that_is_airflows(
    airflow_python: Path, airflow_environment: dict[str, str], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "verdict.json").write_text('{"accepted": false}\n')
    environment = {
        **airflow_environment,
        **_COMMANDS,
        **_AIRFLOWS,
        "PYTHONPATH": str(root / "dags"),
        "SHOPLENS_ROOT": str(root),
    }
    command = [airflow_python, "-c", _OPERATOR, str(tmp_path / "verdict.json"), str(tmp_path / "seen")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines())
    assert {name: seen.get(name) for name in _COMMANDS} == _COMMANDS
    assert [name for name in seen if name.startswith(("AIRFLOW", "_AIRFLOW", "PG", "POSTGRES", "PYTHONPATH"))] == []
    assert seen["PATH"].startswith(f"{root / '.venv/bin'}{os.pathsep}")
