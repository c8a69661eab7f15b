"""Processes that the platform started, known by a mark in their environment.

A child inherits its parent's environment, so the mark finds every descendant, also when its parent was killed and it
now belongs to init. Nothing without the mark of this very project folder is ever touched.
"""

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from shoplens.errors import LocalRunError
from shoplens.settings import Settings

MARK = "SHOPLENS_PLATFORM"  # value: the project folder
PART = "SHOPLENS_PART"  # value: which component, inherited by its children
_GRACE_SECONDS = 15.0


def marked(settings: Settings) -> list[psutil.Process]:
    """Return every living process of this project's platform, oldest first; never this one or its parents."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get(MARK) == str(settings.root) and process.pid not in mine:
                found.append((process.create_time(), process))
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


def part_of(process: psutil.Process) -> str:
    """Return the component that a marked process belongs to."""
    try:
        return str(process.environ().get(PART, "?"))
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return "gone"


def leader(settings: Settings, part: str) -> psutil.Process | None:
    """Return the living first process of a component, by its pid file; None when it is gone."""
    path = settings.var_dir / "run" / f"{part}.pid"
    try:
        pid, created = path.read_text(encoding="utf-8").split()
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
    return process if same else None


def start(settings: Settings, part: str, command: list[str], environment: dict[str, str]) -> psutil.Process:
    """Start a component in a session of its own, its output in var/run/PART.log."""
    run = settings.var_dir / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / f"{part}.log").open("ab") as log:
        child = subprocess.Popen(
            command,
            cwd=settings.root,
            env={**environment, MARK: str(settings.root), PART: part},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    process = psutil.Process(child.pid)
    (run / f"{part}.pid").write_text(f"{child.pid} {process.create_time()}", encoding="utf-8")
    return process


def end(processes: Iterable[psutil.Process]) -> int:
    """End processes: SIGTERM, then SIGKILL for those that stay; return how many there were.

    Raises:
        LocalRunError: one survives.
    """
    listed = list(processes)
    for process in listed:
        _signal(process, "terminate")
    _, alive = psutil.wait_procs(listed, timeout=_GRACE_SECONDS)
    for process in alive:
        _signal(process, "kill")
    _, alive = psutil.wait_procs(alive, timeout=_GRACE_SECONDS)
    if alive:
        raise LocalRunError(f"process {alive[0].pid} does not end, not even with SIGKILL; look at it by hand")
    return len(listed)


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        return


def end_all(settings: Settings, parts: set[str] | None = None) -> int:
    """End the marked processes, all or those of some components, until none is left; return how many there were."""
    total = 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [p for p in marked(settings) if parts is None or part_of(p) in parts]
        if not found:
            return total
        total += end(found)  # again: a process may have started another meanwhile
    raise LocalRunError("processes of the platform keep appearing; look at `shoplens status`")


def log_tail(path: Path, lines: int = 15) -> str:
    """Return the end of a log."""
    if not path.exists():
        return f"{path} does not exist"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
