"""No tool reports home, and none writes outside the project: run for real behind a proxy that only takes notes."""

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoplens.environment import TELEMETRY_OFF

pytestmark = pytest.mark.stores

BIN = Path(sys.prefix) / "bin"
GX = """
import great_expectations as gx, pandas as pd
context = gx.get_context(mode="ephemeral")
batch = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
result = batch.get_batch({"dataframe": pd.DataFrame({"x": [1, 2]})}).validate(
    gx.expectations.ExpectColumnValuesToNotBeNull(column="x"))
assert result.success
"""
FEAST = "import feast, tempfile; from feast import Entity; Entity(name='user', join_keys=['user_id'])"
COMMANDS = {
    "shoplens": ["shoplens", "--help"],
    "dvc": ["dvc", "version"],
    "bentoml": ["bentoml", "list"],
    "great_expectations": ["python", "-c", GX],
    "feast": ["python", "-c", FEAST],
    "matplotlib": ["python", "-c", "import matplotlib.pyplot as plt; plt.figure()"],
    "skrub": ["python", "-c", "import skrub"],
    "optuna": ["python", "-c", "import optuna; optuna.create_study()"],
    "wordllama": ["python", "-c", "from training.models.content_vectors import _encode; _encode(['red lamp'])"],
}


class Notes:
    """The first line of every connection to the proxy: `CONNECT host:port` for HTTPS."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        notes = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 5

            def handle(self) -> None:
                notes.lines.append(self.rfile.readline().decode(errors="replace").strip())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def wait_for(self, text: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(text in line for line in self.lines):
            time.sleep(0.1)
        return any(text in line for line in self.lines)


@pytest.fixture
def notes() -> Iterator[Notes]:
    noting = Notes()
    yield noting
    noting.server.shutdown()
    noting.server.server_close()


def surroundings(home: Path, notes: Notes, **more: str) -> dict[str, str]:
    """A person's plain environment: none of our variables, an own HOME, and the proxy in front of the network."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), notes.url)
    return {**kept, **proxies, "HOME": str(home), **more}


def run(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tools_are_silent_and_leave_home_empty(root: Path, tmp_path: Path, notes: Notes) -> None:
    homes = {name: tmp_path / name for name in COMMANDS}
    for name, command in COMMANDS.items():
        homes[name].mkdir()
        run(command, root, surroundings(homes[name], notes))
    time.sleep(2)  # DVC and BentoML would report from a process or thread of their own
    written = {name: sorted(str(p.relative_to(home)) for p in home.rglob("*")) for name, home in homes.items()}
    assert written == {name: [] for name in COMMANDS}
    assert notes.lines == []


def test_dvc_keeps_its_folders_in_the_project(root: Path, tmp_path: Path, notes: Notes) -> None:
    out = run(["dvc", "version"], root, surroundings(tmp_path, notes))
    for line in ("Global: ", "System: ", "Repo.site_cache_dir: "):
        place = next(text.strip() for text in out.splitlines() if text.strip().startswith(line)).removeprefix(line)
        assert Path(place).is_relative_to(root / "var"), f"{line}{place}"


@pytest.mark.parametrize(
    ("command", "variable", "address"),
    [
        (["dvc", "version"], "DVC_NO_ANALYTICS", "analytics.dvc.org"),
        (["bentoml", "list"], "BENTOML_DO_NOT_TRACK", "t.bentoml.com"),
    ],
)
def test_the_proxy_would_notice(command: list[str], variable: str, address: str, tmp_path: Path, notes: Notes) -> None:
    """With its variable emptied the tool does call home: the test above can fail."""
    project = tmp_path / "project"
    project.mkdir()
    homes = {name: str(tmp_path / name) for name in ("BENTOML_HOME", "DVC_SITE_CACHE_DIR")}
    run(command, project, surroundings(tmp_path, notes, **homes, **{variable: ""}))
    assert notes.wait_for(address, seconds=20), notes.lines


@pytest.mark.airflow
def test_airflow_is_silent_and_writes_to_its_home_only(root: Path, tmp_path: Path, notes: Notes) -> None:
    airflow = root / ".venv-airflow/bin/airflow"
    if not airflow.exists():
        pytest.skip("no orchestrator environment: run `make env`")
    home = tmp_path / "home"
    home.mkdir()
    env = surroundings(home, notes, AIRFLOW_HOME=str(tmp_path / "airflow"))
    done = subprocess.run(
        [airflow, "version"], cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    assert notes.lines == []


def test_every_door_sets_the_switches(root: Path, tmp_path: Path) -> None:
    """An interpreter of the environment started bare has them; one that is set already is left alone."""
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "mine"}
    out = subprocess.run(
        [sys.executable, "-c", show], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    seen = json.loads(out.stdout)
    assert {name: seen.get(name) for name in TELEMETRY_OFF} == {**TELEMETRY_OFF, "DVC_NO_ANALYTICS": "mine"}
    assert seen["PATH"].split(os.pathsep)[0] == str(BIN)
    assert shutil.which("dvc", path=seen["PATH"]) == str(BIN / "dvc")
