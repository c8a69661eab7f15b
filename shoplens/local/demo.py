"""The commands `shoplens demo`, `stop` and `status`: the whole platform on one machine."""

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import typer
from filelock import FileLock, Timeout
from rich.console import Console

from shoplens.errors import LocalRunError
from shoplens.files import read_json, whole_file
from shoplens.local import airflow
from shoplens.local.ports import Ports, choose_ports, keep_ports, kept_ports, require_free
from shoplens.local.processes import end_all, leader, marked, start
from shoplens.local.progress import Follower, seconds_of
from shoplens.settings import Settings, load_settings

_DEVICE = re.compile(r"^(\s*device:\s*)\w+", re.MULTILINE)


def set_device(params: Path, device: str) -> bool:
    """Set `train.device` in params.yaml, preserving comments; return whether it changed."""
    text = params.read_text(encoding="utf-8")
    changed = _DEVICE.sub(rf"\g<1>{device}", text, count=1)
    if changed != text:
        with whole_file(params) as work:
            work.write_text(changed, encoding="utf-8")
    return changed != text


def wants_gpu() -> bool:
    """Return whether `make` was called with GPU=1; GPU=0 equals an unset GPU."""
    return os.environ.get("SHOPLENS_GPU", "").strip() not in ("", "0")


def choose_device(settings: Settings) -> None:
    """With GPU=1, train on the GPU; otherwise return to the CPU if an earlier GPU=1 (not the user) chose the GPU.

    Call this only before a run starts, because all stages of a run must read the same parameters.
    """
    params, mark = settings.root / "params.yaml", settings.var_dir / "run/device_set_by_demo"
    if wants_gpu():
        if set_device(params, "gpu"):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    elif mark.exists():
        set_device(params, "cpu")
        mark.unlink()


SERVICE = "service"
_FOLLOW_UP = {"materialize": "features", "deploy": "package"}  # DAG -> the stage whose Asset starts it
_ANSWER_SECONDS = 180.0


@contextmanager
def _only_starter(settings: Settings, console: Console) -> Iterator[None]:
    """Hold the startup lock: two concurrent `make demo` runs would stop each other's components."""
    path = settings.var_dir / "locks/demo.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("another `make demo` is starting the platform; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _start_platform(settings: Settings, console: Console) -> tuple[Ports, bool]:
    """Start missing components; return the ports, and whether Airflow was already fully running."""
    alive = {part for part in (*airflow.COMPONENTS, SERVICE) if leader(settings, part) is not None}
    ports, whole = choose_ports(settings, running=bool(alive)), alive.issuperset(airflow.COMPONENTS)
    # Processes of a killed platform may still listen. A scheduler without its API, or workers without their scheduler,
    # only do harm.
    if not whole:
        end_all(settings, {*airflow.COMPONENTS, airflow.MIGRATION})
        require_free("AIRFLOW_PORT", ports.airflow)
    if SERVICE not in alive:
        end_all(settings, {SERVICE})
        require_free("SERVICE_PORT", ports.service)
    keep_ports(settings, ports)
    environment = airflow.airflow_environment(settings, ports.airflow, ports.service)
    if SERVICE not in alive:
        supervise = [str(Path(sys.executable).with_name("shoplens")), "supervise", "--port", str(ports.service)]
        start(settings, SERVICE, supervise, {**os.environ, "SHOPLENS_ROOT": str(settings.root)})
    if not whole:
        console.print("starting Airflow (api-server, scheduler, dag-processor)")
        airflow.prepare(settings, environment)
        airflow.start_components(settings, environment)
    return ports, whole


def _clear_stale(api: airflow.AirflowApi, console: Console) -> None:
    """Mark the runs that a stopped Airflow left behind as failed, because no process works on them."""
    for dag in airflow.DAGS:
        for run in api.runs(dag):
            if run["state"] in airflow.ACTIVE:
                console.print(f"{dag}: run {run['dag_run_id']} was interrupted; marked failed")
                api.fail(dag, run["dag_run_id"])


def _current_run(settings: Settings, api: airflow.AirflowApi, console: Console) -> str:
    """Return the active run of the computation, or choose the device and trigger one."""
    active = [str(run["dag_run_id"]) for run in api.runs("computation") if run["state"] in airflow.ACTIVE]
    if active:
        console.print(f"computation: run {active[0]} is in progress, with the parameters it started with")
        return active[0]
    choose_device(settings)
    run = api.trigger("computation")
    console.print(f"computation: run {run}")
    return run


def _follow_up(api: airflow.AirflowApi, console: Console, dag: str, since: str) -> list[dict[str, Any]]:
    """Wait for the run of `dag` that an Asset triggered at or after `since`, and follow it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        later = [r for r in api.runs(dag) if datetime.fromisoformat(r["run_after"]) >= datetime.fromisoformat(since)]
        if later:
            return Follower(api, console, dag, later[-1]["dag_run_id"]).follow()
        time.sleep(1)
    raise LocalRunError(f"{dag}: no run followed its Asset within two minutes; see {api.url}/dags/{dag}")


def _ask_service(settings: Settings, port: int) -> tuple[str, str, dict[str, Any]]:
    """Wait up to three minutes for a prediction from the service; return the route, the user and the response."""
    import polars as pl

    held_out, route = settings.outs_dir / "evaluation/predictions/purchase.parquet", "/predict_purchase"
    if not held_out.exists():  # a log without purchases
        held_out, route = held_out.with_name("next_item.parquet"), "/recommend"
    user, last = str(pl.read_parquet(held_out, columns=["user_id"])["user_id"][-1]), ""
    deadline = time.monotonic() + _ANSWER_SECONDS
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                answer = client.post(route, json={"user_id": user})
                if answer.status_code == httpx.codes.OK and answer.json()["fallback"] is None:
                    return route, user, answer.json()
                last = answer.text[:300]
            except httpx.TransportError as error:
                last = str(error)
            time.sleep(1)
    raise LocalRunError(f"the service on port {port} does not answer for user {user}; last: {last}; see var/run/*.log")


def _say_verdict(settings: Settings, tasks: list[dict[str, Any]], console: Console) -> None:
    """Print the gate's verdict, if this run included the gate."""
    asked = any(task["task_id"] == "gate" and task["state"] == "success" for task in tasks)
    kept = sorted((settings.var_dir / "service/verdicts").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not asked or not kept:
        return
    verdict = read_json(kept[-1])
    word = "accepted" if verdict["accepted"] else f"REJECTED; {verdict['current'] or 'nothing'} stays in service"
    console.print(f"\nthe gate on model {verdict['model_version']}: {word}")
    for name, head in (*verdict["heads"].items(), *verdict["baselines"].items()):
        new, old, both = head["new"], head["old"], head["difference"]
        console.print(
            f"  {name}: {head['metric']} new {new['value']:.4f}, {head['rival']} {old['value']:.4f}, difference "
            f"{both['value']:+.4f} [{both['low']:+.4f}, {both['high']:+.4f}]"
        )
    for name, reason in verdict["missing"].items():
        console.print(f"  {name}: no model: {reason}")


def _times(groups: dict[str, list[dict[str, Any]]], total: float, console: Console) -> None:
    console.print("\nwhat each task took:")
    for dag, tasks in groups.items():
        for task in sorted(tasks, key=lambda t: t["start_date"] or "9"):
            if task["state"] == "success":
                console.print(f"  {dag + '.' + task['task_id']:32} {seconds_of(task):7.1f} s")
    console.print(f"  {'all, from the first to the last':32} {total:7.1f} s")


def _addresses(settings: Settings, ports: Ports, console: Console) -> None:
    home = settings.var_dir / "airflow"
    docs = settings.var_dir / "data_docs/index.html"
    console.print(f"""
Airflow      http://127.0.0.1:{ports.airflow}   user {airflow.USER}, password {airflow.password(home)}
Service      http://127.0.0.1:{ports.service}   (OpenAPI page with examples)
Data Docs    {docs.as_uri()}
Features     {(settings.outs_dir / "features/features.html").as_uri()}
Plots        {(settings.outs_dir / "evaluation/plots").as_uri()}
             {(settings.outs_dir / "explanation/plots").as_uri()}
End it all with `make stop`.""")


def after_interrupt(settings: Settings) -> str:
    """Return one line stating what still runs after Ctrl-C and how to follow or stop it."""
    ports = kept_ports(settings)
    if ports is not None and all(leader(settings, part) is not None for part in airflow.COMPONENTS):
        return (
            f"interrupted: Airflow at http://127.0.0.1:{ports.airflow} and its run continue; `make demo` follows them "
            "again, `make stop` ends them"
        )
    if marked(settings):
        return "interrupted: the platform is partly started; `make demo` starts the rest, `make stop` ends it"
    return "interrupted: nothing is running; `make demo` starts again"


def run_demo(settings: Settings, console: Console) -> None:
    """Run the whole platform and leave the service running.

    Raises:
        PortInUseError: a port is already in use; nothing was started.
        LocalRunError: a part does not start, or a task fails.
    """
    began = time.monotonic()
    with _only_starter(settings, console):
        ports, was_whole = _start_platform(settings, console)
        api = airflow.AirflowApi(settings, ports.airflow)
        api.wait_until_up()
        console.print(f"Airflow is up at {api.url} after {time.monotonic() - began:.0f} s")
        console.print(f"user {airflow.USER}, password {airflow.password(settings.var_dir / 'airflow')}")
        if not was_whole:
            _clear_stale(api, console)
        run = _current_run(settings, api, console)
    tasks = {"computation": Follower(api, console, "computation", run).follow()}
    ended = {task["task_id"]: task["start_date"] for task in tasks["computation"]}
    for dag, stage in _FOLLOW_UP.items():
        tasks[dag] = _follow_up(api, console, dag, ended[stage])
    _say_verdict(settings, tasks["deploy"], console)
    if not (settings.var_dir / "service/current").exists():
        raise LocalRunError(
            "the gate rejected the model and no other was in service, so nothing answers; the verdict is in "
            f"{settings.var_dir / 'service/verdicts'}: fix the cause and run `make demo` again"
        )
    route, user, answer = _ask_service(settings, ports.service)
    console.print(f"\nPOST {route} {json.dumps({'user_id': user})}")
    console.print_json(json.dumps(answer))
    _times(tasks, time.monotonic() - began, console)
    _addresses(settings, ports, console)


_INTERRUPTED = 130  # exit status of shells for SIGINT


def demo() -> None:
    """Run the whole platform on this machine and leave the service running; Ctrl-C does not stop it."""
    settings, console = load_settings(), Console(highlight=False, soft_wrap=True)
    try:
        run_demo(settings, console)
    except KeyboardInterrupt:
        console.print(after_interrupt(settings))
        raise typer.Exit(_INTERRUPTED) from None


def stop() -> None:
    """Stop exactly what `demo` started, including child processes."""
    settings = load_settings()
    parts = Counter(part for _, part in marked(settings))
    count = end_all(settings)
    what = ", ".join(f"{part} {number}" for part, number in sorted(parts.items()))
    Console(highlight=False).print(f"ended {count} processes: {what}" if count else "nothing was running")


def status() -> None:
    """Show what is running, where, and what is in service."""
    settings = load_settings()
    console = Console(highlight=False, soft_wrap=True)
    found = marked(settings)
    for process, part in found:
        console.print(f"{part:14} pid {process.pid}")
    ports = kept_ports(settings)
    if found and ports is not None:
        console.print(f"Airflow http://127.0.0.1:{ports.airflow}, service http://127.0.0.1:{ports.service}")
    if not found:
        console.print("nothing is running")
    current = settings.var_dir / "service/current"
    console.print(f"in service: {current.resolve().name if current.exists() else 'nothing'}")
