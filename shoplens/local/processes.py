"""Processes that the platform started: known by a mark in their environment, and by the session they belong to.

A child inherits its parent's environment and session, so both find every descendant, also when its parent was killed
and it now belongs to init. Two signs, because a program that sets its own title may overwrite the memory that shows its
environment. Nothing without a sign of this very project folder is ever touched.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from shoplens.errors import LocalRunError
from shoplens.settings import Settings

MARK = "SHOPLENS_PLATFORM"  # value: the project folder
PART = "SHOPLENS_PART"  # value: which component, inherited by its children
_GRACE_SECONDS = 15.0


@dataclass(frozen=True)
class Session:
    """A session that the platform made: its number is the process id of the component that began it."""

    part: str
    pid: int
    created: float


def sessions(settings: Settings) -> dict[int, Session]:
    """Return the sessions of this project's platform, by number, from the pid files."""
    found = {}
    for path in (settings.var_dir / "run").glob("*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid, created = path.read_text(encoding="utf-8").split()
            found[int(pid)] = Session(path.stem, int(pid), float(created))
    return found


def _part(process: psutil.Process, root: str, known: dict[int, Session]) -> str | None:
    """Return the component that a process belongs to, or None when it is none of ours."""
    try:
        environment = process.environ()
        if environment.get(MARK) == root:
            return environment.get(PART, "?")
        session = known.get(os.getsid(process.pid))
        # A number may be used again after the machine started anew: nobody in the session is older than its leader.
        return session.part if session is not None and process.create_time() >= session.created - 1 else None
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None


def marked(settings: Settings) -> list[tuple[psutil.Process, str]]:
    """Return every living process of this project's platform with its component; never this one or its parents."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    known = sessions(settings)
    pairs = ((process, _part(process, str(settings.root), known)) for process in psutil.process_iter())
    return [
        (process, part) for process, part in pairs if part is not None and process.pid not in mine and _lives(process)
    ]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


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


def signs(settings: Settings, part: str) -> dict[str, str]:
    """Return the variables by which a process of this project's platform, and its children, are known."""
    return {MARK: str(settings.root), PART: part}


def start(settings: Settings, part: str, command: list[str], environment: dict[str, str]) -> psutil.Process:
    """Start a component in a session of its own, its output in var/run/PART.log."""
    run = settings.var_dir / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / f"{part}.log").open("ab") as log:
        child = subprocess.Popen(
            command,
            cwd=settings.root,
            env={**environment, **signs(settings, part)},
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
        found = [process for process, part in marked(settings) if parts is None or part in parts]
        if not found:
            return total
        total += end(found)  # again: a process may have started another meanwhile
    raise LocalRunError("processes of the platform keep appearing; look at `shoplens status`")


def log_tail(path: Path, lines: int = 15) -> str:
    """Return the end of a log."""
    if not path.exists():
        return f"{path} does not exist"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
