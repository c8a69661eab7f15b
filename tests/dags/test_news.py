"""When a DAG that an Asset starts has to act. Airflow's interpreter runs the DAGs' own module on a real folder."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

_ASK = """
import json, sys
from common import news
word, digest = sys.argv[1:]
consumer, state = {"store": ("materialize", news.store_state), "service": ("deploy", news.service_state)}[word]
print("RESULT", json.dumps(news.is_new(consumer, digest or None, state())))
news.remember(consumer, digest or None, state())
"""


@pytest.fixture
def ask(airflow_python: Path, airflow_environment: dict[str, str], root: Path, tmp_path: Path) -> Callable[..., bool]:
    """Ask whether an event is news, and act on it."""
    environment = {**airflow_environment, "PYTHONPATH": str(root / "dags"), "SHOPLENS_ROOT": str(tmp_path)}

    def run(word: str, digest: str) -> bool:
        command = [airflow_python, "-c", _ASK, word, digest]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        return bool(json.loads(result.stdout.split("RESULT")[1]))

    return run


def test_the_store_is_loaded_for_new_features_or_when_any_part_of_it_is_gone(ask: Callable, tmp_path: Path) -> None:
    feast = tmp_path / "var/feast"
    feast.mkdir(parents=True)
    for name in ("state.json", "registry.db", "online.db"):
        (feast / name).write_text("{}")
    assert ask("store", "a")
    assert not ask("store", "a")
    assert ask("store", ""), "a person asks"
    assert ask("store", "b")
    assert not ask("store", "b")
    (feast / "online.db").unlink()
    assert ask("store", "b")
    (feast / "online.db").write_text("")
    (feast / "state.json").write_text('{"digest": "loaded by hand"}')
    assert ask("store", "b")
    assert not ask("store", "b")


def test_a_package_is_judged_again_when_the_verdict_could_be_another(ask: Callable, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("gate: {margin: 0.005}\n")
    service = tmp_path / "var/service"
    for version in ("one", "two"):
        (service / "releases" / version).mkdir(parents=True)
    assert ask("service", "a"), "nothing is in service"
    assert ask("service", "a")
    (service / "current").symlink_to("releases/one")
    assert ask("service", "a")
    assert not ask("service", "a")
    (tmp_path / "params.yaml").write_text("gate: {margin: 0.5}\n")
    assert ask("service", "a"), "a wider margin may accept what was refused"
    assert not ask("service", "a")
    (service / "current").unlink()
    (service / "current").symlink_to("releases/two")
    assert ask("service", "a"), "another rival"
