"""Airflow lives in an environment of its own: these tests run its interpreter."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_COLLECT = """
import json, sys, time
began = time.perf_counter()
import airflow.sdk
ready = time.perf_counter()
import computation, materialize, deploy
parsed = time.perf_counter() - ready
dags = {}
for module in (computation, materialize, deploy):
    dag = module.dag
    dags[dag.dag_id] = {
        "doc": dag.doc_md, "tags": sorted(dag.tags), "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup, "description": dag.description,
        "schedule": [asset.uri for asset in getattr(dag.timetable, "asset_condition", None).objects]
            if getattr(dag.timetable, "asset_condition", None) else None,
        "tasks": {
            task.task_id: {
                "owner": task.owner, "retries": task.retries, "pool": task.pool, "doc": task.doc_md,
                "limit": task.execution_timeout.total_seconds() if task.execution_timeout else None,
                "downstream": sorted(task.downstream_task_ids), "command": getattr(task, "command", None),
                "outlets": [asset.uri for asset in task.outlets],
            }
            for task in dag.tasks
        },
    }
heavy = [name for name in ("tensorflow", "dvc", "feast", "bentoml", "polars") if name in sys.modules]
print("RESULT" + json.dumps({"dags": dags, "seconds": parsed, "heavy": heavy}))
"""


@pytest.fixture(scope="session")
def airflow_environment(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    keep = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {
        **keep,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }


@pytest.fixture(scope="session")
def airflow_python(root: Path) -> Path:
    python = root / ".venv-airflow/bin/python"
    if not python.exists():
        pytest.skip("the orchestrator's environment is not there: make env")
    return python


@pytest.fixture(scope="session")
def collected(airflow_python: Path, airflow_environment: dict[str, str], root: Path) -> dict[str, Any]:
    """What Airflow's own interpreter sees of the DAG files."""
    result = subprocess.run(
        [airflow_python, "-c", _COLLECT],
        env={**airflow_environment, "PYTHONPATH": str(root / "dags")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.split("RESULT")[1])


# Airflow's command line, several commands in one interpreter: to start it takes longer than most of them.
_COMMANDS = """
import json, sys
from airflow.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["airflow", *arguments]
    main()
"""


@pytest.fixture
def run_airflow(airflow_python: Path, airflow_environment: dict[str, str]) -> Callable[..., str]:
    """Run commands of Airflow's command line, one after the other; return what they print."""

    def run(*commands: list[str], **more: str) -> str:
        result = subprocess.run(
            [airflow_python, "-c", _COMMANDS, json.dumps(commands)],
            env={**airflow_environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-4000:]
        return result.stdout

    return run
