"""When a DAG that an Asset starts has to act. Airflow's interpreter runs the DAGs' own module on a real folder."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

# Each scenario in one interpreter: to start Airflow's takes seconds. `ask` says whether an event is news, and acts.
_BEGIN = """
import json, os
from common import news
from common.constants import ROOT

def ask(word, digest):
    consumer, state = {"store": ("materialize", news.store_state), "service": ("deploy", news.service_state)}[word]
    answer = news.is_new(consumer, digest, state())
    news.remember(consumer, digest, state())
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


def test_the_store_is_loaded_for_new_features_or_when_any_part_of_it_is_gone(play: Callable) -> None:
    play("""
for name in ("state.json", "registry.db", "online.db"):
    write(f"var/feast/{name}", "{}")
assert ask("store", "a")
assert not ask("store", "a")
assert ask("store", None), "a person asks"
assert ask("store", "b")
assert not ask("store", "b")
(ROOT / "var/feast/online.db").unlink()
assert ask("store", "b"), "a part is gone"
write("var/feast/online.db", "")
write("var/feast/state.json", '{"digest": "loaded by hand"}')
assert ask("store", "b"), "it holds something else"
assert not ask("store", "b")
""")


def test_the_store_is_loaded_again_for_another_definition_or_another_store(play: Callable, tmp_path: Path) -> None:
    play("""
for name in ("state.json", "registry.db", "online.db"):
    write(f"var/feast/{name}", "{}")
write("features/repo.py", "TTL = 1")
assert ask("store", "a")
assert not ask("store", "a")
write("features/repo.py", "TTL = 2")
assert ask("store", "a"), "a definition changed"
write("features/more.py", "")
assert ask("store", "a"), "one was added"
assert not ask("store", "a")
os.environ["SHOPLENS_ONLINE_STORE"] = "redis"
assert ask("store", "a"), "another kind of store"
assert not ask("store", "a")
os.environ["SHOPLENS_REDIS_URL"] = "redis://:s3cret@cache:6380/0"
assert ask("store", "a"), "another place"
assert not ask("store", "a")
os.environ["SHOPLENS_REDIS_URL"] = "redis://:an0ther@cache:6380/0"
assert not ask("store", "a"), "a new password to the same store"
""")
    kept = (tmp_path / "var/airflow/seen/materialize.json").read_text()
    assert not any(word in kept for word in ("s3cret", "an0ther", "cache"))


def test_a_package_is_judged_again_when_the_verdict_could_be_another(play: Callable) -> None:
    play("""
write("params.yaml", "gate: {margin: 0.005}")
for version in ("one", "two"):
    (ROOT / "var/service/releases" / version).mkdir(parents=True)
current = ROOT / "var/service/current"
assert ask("service", "a"), "nothing is in service"
assert ask("service", "a")
current.symlink_to("releases/one")
assert ask("service", "a")
assert not ask("service", "a")
write("params.yaml", "gate: {margin: 0.5}")
assert ask("service", "a"), "a wider margin may accept what was refused"
assert not ask("service", "a")
current.unlink()
current.symlink_to("releases/two")
assert ask("service", "a"), "another rival"
""")
