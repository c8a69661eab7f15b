"""When a DAG that an Asset starts has to act. Airflow's interpreter runs the DAGs' own module on a real folder."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

# Each scenario in one interpreter: starting Airflow's takes seconds. `ask` returns whether to act, and then acts.
_BEGIN = """
import json, os
from common import already_done
from common.constants import ROOT

def ask(digest):
    answer = already_done.is_new("deploy", digest, already_done.service_state())
    already_done.remember("deploy", digest, already_done.service_state())
    return answer

def write(path, text):
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / path).write_text(text)
"""


@pytest.fixture
def play(airflow_python: Path, airflow_environment: dict[str, str], root: Path, tmp_path: Path) -> Callable[..., None]:
    """Run a scenario on an empty project; it fails where one of its assertions does."""
    environment = {**airflow_environment, "PYTHONPATH": str(root / "dags"), "SHOPLENS_ROOT": str(tmp_path)}

    def run(scenario: str, **more: str) -> None:
        command = [airflow_python, "-c", _BEGIN + scenario]
        result = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]

    return run


def test_a_package_is_judged_again_when_the_verdict_could_be_another(play: Callable) -> None:
    play("""
write("params.yaml", "gate: {margin: 0.005}")
for version in ("one", "two"):
    (ROOT / "var/service/releases" / version).mkdir(parents=True)
current = ROOT / "var/service/current"
assert ask("a"), "nothing is in service"
assert ask("a")
current.symlink_to("releases/one")
assert ask("a")
assert not ask("a")
write("params.yaml", "gate: {margin: 0.5}")
assert ask("a"), "a wider margin may accept what was refused"
assert not ask("a")
current.unlink()
current.symlink_to("releases/two")
assert ask("a"), "another rival"
assert ask(None), "a person triggered it"
assert ask("b"), "another package"
""")
