"""Airflow on one machine: settings, components and REST API (v2)."""

import json
import os
import secrets
import sqlite3
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from shoplens.environment import TELEMETRY_OFF
from shoplens.errors import LocalRunError
from shoplens.files import whole_file
from shoplens.local.processes import leader, log_tail, signs, start
from shoplens.settings import Settings

USER = "admin"
POOL = "workspace"
DAGS = ("computation", "materialize", "deploy")
COMPONENTS = ("api-server", "scheduler", "dag-processor")
# The scheduler would serve its logs on 0.0.0.0:8793; the API server reads the files, which are on this machine.
_OPTIONS = {"scheduler": ("--skip-serve-logs",)}
MIGRATION = "db-migrate"  # not a component, but an interrupted start may leave this process behind
ACTIVE = ("queued", "running")
_UP_SECONDS = 180.0


def _kept(path: Path, text: str) -> str:
    """Return the content of a file that only its owner can read; create it with `text` if it is missing."""
    if not path.exists():
        with whole_file(path) as work:
            work.touch(mode=0o600)
            work.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _secret(path: Path) -> str:
    return _kept(path, secrets.token_urlsafe(32))


def password(home: Path) -> str:
    """Return the only user's generated password, stored in the file that Airflow's simple auth manager reads."""
    return str(json.loads(_kept(home / "passwords.json", json.dumps({USER: secrets.token_urlsafe(12)})))[USER])


def airflow_environment(settings: Settings, airflow_port: int, service_port: int) -> dict[str, str]:
    """Return the environment of Airflow's components and of the commands that they run."""
    home = settings.var_dir / "airflow"
    password(home)
    options = {
        "CORE__DAGS_FOLDER": settings.root / "dags",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "3",  # `airflow standalone` would fork 32 workers
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{airflow_port}/execution/",
        "CORE__FERNET_KEY": _secret(home / "fernet_key") + "=",  # 32 bytes in padded base64
        "API__HOST": "127.0.0.1",
        "API__PORT": airflow_port,
        "API__BASE_URL": f"http://127.0.0.1:{airflow_port}",
        "API__WORKERS": "1",
        "API__SECRET_KEY": _secret(home / "secret_key"),
        "API_AUTH__JWT_SECRET": _secret(home / "jwt_secret"),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        "LOGGING__LOGGING_LEVEL": "INFO",
    }
    bins = [settings.root / ".venv-airflow/bin", settings.root / ".venv/bin"]
    keep = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {
        **keep,
        **TELEMETRY_OFF,
        **{f"AIRFLOW__{name}": str(value) for name, value in options.items()},
        "AIRFLOW_HOME": str(home),
        "SPT_NOENV": "1",  # setproctitle then leaves the environment readable in /proc
        "SHOPLENS_ROOT": str(settings.root),
        "SHOPLENS_SERVICE_URL": f"http://127.0.0.1:{service_port}",
        "PATH": os.pathsep.join([*map(str, bins), os.environ["PATH"]]),
    }


def prepare(settings: Settings, environment: dict[str, str]) -> None:
    """Create or migrate the database in WAL mode, so that readers and the writer do not block each other."""
    home = settings.var_dir / "airflow"
    log = settings.var_dir / "run/airflow-migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    airflow = str(settings.root / ".venv-airflow/bin/airflow")
    with log.open("ab") as out:
        done = subprocess.run(
            [airflow, "db", "migrate"],
            cwd=settings.root,
            env={**environment, **signs(settings, MIGRATION)},
            stdout=out,
            stderr=out,
            check=False,
        )
    if done.returncode != 0:
        raise LocalRunError(f"`airflow db migrate` failed; the end of {log}:\n{log_tail(log)}")
    with sqlite3.connect(home / "airflow.db") as database:
        database.execute("PRAGMA journal_mode=WAL")


def start_components(settings: Settings, environment: dict[str, str]) -> None:
    """Start the components of Airflow that are not running."""
    airflow = str(settings.root / ".venv-airflow/bin/airflow")
    for part in COMPONENTS:
        if leader(settings, part) is None:
            start(settings, part, [airflow, part, *_OPTIONS.get(part, ())], environment)


def _last_written(root: Path) -> datetime:
    """Return when the files that define the DAGs were last written; never a time in the future."""
    files = [root / "dvc.yaml", *(root / "dags").rglob("*.py")]
    return datetime.fromtimestamp(min(time.time(), max(path.stat().st_mtime for path in files)), UTC)


class AirflowApi:
    """A client of Airflow's REST API."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._settings = settings
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def require_components(self) -> None:
        """Raise a LocalRunError with the end of the log if a component has exited."""
        for part in COMPONENTS:
            if leader(self._settings, part) is None:
                log = self._settings.var_dir / "run" / f"{part}.log"
                raise LocalRunError(f"airflow {part} ended; run `make demo` again. The end of {log}:\n{log_tail(log)}")

    def wait_until_up(self) -> None:
        """Wait until the API responds, the current DAGs are parsed and unpaused, and the pool exists.

        Raises:
            LocalRunError: a component exited, a DAG file is broken, or it takes longer than three minutes.
        """
        written = _last_written(self._settings.root)
        deadline = time.monotonic() + _UP_SECONDS
        while time.monotonic() < deadline:
            self.require_components()
            try:
                if self._login() and all(self._parsed(dag, written) for dag in DAGS):
                    self._ensure_pool()
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.5)
        raise LocalRunError(f"Airflow is not up after {_UP_SECONDS:.0f} s; see {self._settings.var_dir / 'run'}/*.log")

    def _parsed(self, dag: str, written: datetime) -> bool:
        """Return whether Airflow has parsed the current files of a DAG; a paused DAG is unpaused."""
        answer = self._call("GET", f"/dags/{dag}")
        if answer.status_code == httpx.codes.OK:
            about = answer.json()
            if about["is_paused"]:
                self._checked("PATCH", f"/dags/{dag}", json={"is_paused": False})
            if about["last_parsed_time"] and datetime.fromisoformat(about["last_parsed_time"]) >= written:
                return True
        for error in self._checked("GET", "/importErrors")["import_errors"]:
            if datetime.fromisoformat(error["timestamp"]) >= written:
                raise LocalRunError(f"the DAG file {error['filename']} is broken:\n{error['stack_trace'].rstrip()}")
        return False

    def _ensure_pool(self) -> None:
        if self._call("GET", f"/pools/{POOL}").status_code == httpx.codes.NOT_FOUND:
            about = {"name": POOL, "slots": 1, "description": "Who reads or writes outs/", "include_deferred": False}
            self._checked("POST", "/pools", json=about)

    def _login(self) -> bool:
        if "authorization" in self._client.headers:
            return True
        secret = password(self._settings.var_dir / "airflow")
        answer = self._client.post("/auth/token", json={"username": USER, "password": secret})
        if answer.status_code not in (httpx.codes.OK, httpx.codes.CREATED):
            return False
        self._client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return True

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request, renewing an expired token and retrying a broken connection."""
        for attempt in range(5):
            try:
                answer = self._client.request(method, f"/api/v2{path}", **more)
            except httpx.TransportError:
                if attempt == 4:
                    raise
                time.sleep(2)
                continue
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                return answer
            del self._client.headers["authorization"]
            self._login()
        return answer

    def _checked(self, method: str, path: str, **more: Any) -> Any:
        answer = self._call(method, path, **more)
        if answer.is_error:
            raise LocalRunError(f"Airflow {method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return the latest runs of a DAG, newest first."""
        found = self._checked("GET", f"/dags/{dag}/dagRuns", params={"order_by": "-run_after", "limit": 20})
        return list(found["dag_runs"])

    def run_state(self, dag: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self._checked("GET", f"/dags/{dag}/dagRuns/{quote(run_id)}")["state"])

    def trigger(self, dag: str) -> str:
        """Trigger a run and return its ID."""
        body = {"logical_date": None, "note": "triggered by make demo"}
        return str(self._checked("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def fail(self, dag: str, run_id: str) -> None:
        """Mark a run as failed, which ends its tasks."""
        self._checked("PATCH", f"/dags/{dag}/dagRuns/{run_id}", json={"state": "failed"})

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        found = self._checked("GET", f"/dags/{dag}/dagRuns/{run_id}/taskInstances", params={"limit": 100})
        return list(found["task_instances"])

    def log_lines(self, dag: str, run_id: str, task: str, attempt: int) -> list[str]:
        """Return a task's output from Airflow's log file on this machine."""
        folder = self._settings.var_dir / f"airflow/logs/dag_id={dag}/run_id={run_id}/task_id={task}"
        path = folder / f"attempt={attempt}.log"
        if not path.exists():
            return []
        lines = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(str(json.loads(line).get("event", "")))
            except (ValueError, AttributeError):
                lines.append(line)
        return lines
