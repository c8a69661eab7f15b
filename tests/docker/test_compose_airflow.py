"""The Airflow half of docker-compose.yml against the installed Airflow and the DAGs of this repository."""

import configparser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def templates(root: Path) -> Path:
    """Airflow's own configuration templates, in the orchestrator environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = root / ".venv-airflow/lib" / version / "site-packages/airflow/config_templates"
    if not found.is_dir():
        pytest.skip("no orchestrator environment: run `make env`")
    return found


def options(templates: Path) -> set[tuple[str, str]]:
    """Every (section, option) that Airflow or one of its own providers declares."""
    core = yaml.safe_load((templates / "config.yml").read_text())
    found = {(section, option) for section, content in core.items() for option in content["options"]}
    providers = configparser.RawConfigParser()
    providers.read_string((templates / "provider_config_fallback_defaults.cfg").read_text())
    return found | {(section, option) for section in providers.sections() for option in providers.options(section)}


# Options of the Celery provider that Airflow's fallback file leaves out; the provider's documentation has them.
CELERY_ONLY = {("celery", "result_backend")}


def test_every_airflow_setting_names_a_real_option(templates: Path, compose: dict[str, Any]) -> None:
    known = options(templates) | CELERY_ONLY
    names = {n for s in compose["services"].values() for n in s.get("environment", {}) if n.startswith("AIRFLOW__")}
    assert len(names) > 10
    for name in names:
        section, _, option = name.removeprefix("AIRFLOW__").lower().partition("__")
        assert (section, option) in known, name


def test_airflow_parts_share_one_configuration(compose: dict[str, Any]) -> None:
    parts = {name: s["environment"] for name, s in compose["services"].items() if name.startswith("airflow-")}
    assert set(parts) == {
        f"airflow-{p}" for p in ("init", "api-server", "scheduler", "dag-processor", "triggerer", "worker")
    }
    shared = {n: v for n, v in parts["airflow-scheduler"].items() if n.startswith("AIRFLOW")}
    for name, environment in parts.items():
        assert {n: environment.get(n) for n in shared} == shared, name


@pytest.mark.airflow
@pytest.mark.parametrize("part", ["api-server", "scheduler", "dag-processor", "triggerer"])
def test_airflow_commands_and_options_exist(
    root: Path, templates: Path, compose: dict[str, Any], part: str, tmp_path: Path
) -> None:
    program, *arguments = compose["services"][f"airflow-{part}"]["command"]
    assert program == "airflow"
    env = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = [str(root / ".venv-airflow/bin/airflow"), arguments[0], "--help"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for option in (word for word in arguments if word.startswith("--")):
        assert option in done.stdout


def test_the_worker_runs_celery_from_the_locked_provider(root: Path, compose: dict[str, Any]) -> None:
    assert compose["services"]["airflow-worker"]["command"] == ["airflow", "celery", "worker"]
    lock = (root / "uv.lock").read_text()
    for name in ("apache-airflow-providers-celery", "apache-airflow-providers-postgres", "psycopg2-binary", "dvc-s3"):
        assert f'name = "{name}"' in lock


def test_pools_of_the_dags_are_made_by_the_job(root: Path) -> None:
    made = set(re.findall(r"airflow pools set (\S+) 1 ", (root / "docker/airflow-init.sh").read_text()))
    assert len(made) == 1
    sources = "\n".join(path.read_text() for path in sorted((root / "dags").rglob("*.py")))
    if not sources:
        pytest.skip("no DAGs in dags/")
    used = set(re.findall(r"\bpool\s*=\s*[\"']([^\"']+)[\"']", sources))
    used |= set(re.findall(r"\b\w*POOL\w*\s*(?::[^=]+)?=\s*[\"']([^\"']+)[\"']", sources))
    assert used == made


@pytest.mark.airflow
def test_the_job_prepares_a_database_twice(root: Path, templates: Path, tmp_path: Path) -> None:
    """docker/airflow-init.sh for real, on SQLite: the pool has one slot, and the admin's password is in the file."""
    import json
    import sqlite3

    passwords = tmp_path / "passwords.json"
    env = {
        "PATH": f"{root / '.venv-airflow/bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW_ADMIN_PASSWORD": 'quote " and space',
    }
    for _ in range(2):
        command = ["sh", str(root / "docker/airflow-init.sh")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "airflow.db") as database:
        assert database.execute("select slots from slot_pool where pool = 'workspace'").fetchall() == [(1,)]
    assert json.loads(passwords.read_text()) == {"admin": 'quote " and space'}
    assert passwords.stat().st_mode & 0o077 == 0
