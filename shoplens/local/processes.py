"""Processes that the platform started: known by a mark in their environment, and by the session they belong to.

A child inherits its parent's environment and session, so both find every descendant, also when its parent was killed
and it now belongs to init. Two signs, because a program that sets its own title may overwrite the memory that shows its
environment. Nothing without a sign of this very project folder is ever touched.

A session is a number, and numbers are used again: after a reboot, after a container's restart (which may keep the boot
id), or once every process of the session has ended. So a pid file holds the boot and the start time
of the session's leader beside its number, and the session is a sign only

- in the boot that the file is of;
- while that very leader lives (a number that another process leads is another session: Linux does not reuse a number
  while a session has it);
- when the leader is gone: for those who write to the component's own log, and for children of a process that is ours.
"""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from shoplens.errors import LocalRunError
from shoplens.files import whole_file
from shoplens.settings import Settings

MARK = "SHOPLENS_PLATFORM"  # value: the project folder
PART = "SHOPLENS_PART"  # value: which component, inherited by its children
_GRACE_SECONDS = 15.0


@dataclass(frozen=True)
class Session:
    """A session that the platform made in this boot: its number is the process id of the component that began it."""

    part: str
    pid: int
    born: int
    log: Path

    @property
    def leads(self) -> bool:
        """Whether its leader lives, or is a zombie that still keeps the number."""
        return _born(self.pid) == self.born

    @property
    def is_over(self) -> bool:
        """Whether another process has its number, so that no process of the session is left."""
        return _born(self.pid) not in (None, self.born)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _born(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the boot, which no setting of the clock moves; None: no such.

    With the boot and the number it identifies a process uniquely.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # proc(5): starttime is field 22; the name before may hold anything


def _pid_file(settings: Settings, part: str) -> Path:
    return settings.var_dir / "run" / f"{part}.pid"


def _session(settings: Settings, part: str) -> Session | None:
    """Return the session of a component from its pid file; None when the file is missing, torn or of another boot."""
    path = _pid_file(settings, part)
    try:
        pid, born, boot = path.read_text(encoding="utf-8").split()
        return Session(part, int(pid), int(born), path.with_suffix(".log")) if boot == _boot() else None
    except (OSError, ValueError):
        return None


def sessions(settings: Settings) -> dict[int, Session]:
    """Return the sessions of this project's platform, by number, from the pid files of this boot."""
    names = [path.stem for path in (settings.var_dir / "run").glob("*.pid")]
    return {session.pid: session for name in names if (session := _session(settings, name)) is not None}


def _writes_to(process: psutil.Process, log: Path) -> bool:
    def target(descriptor: int) -> str:
        with contextlib.suppress(OSError):
            return str(Path(f"/proc/{process.pid}/fd/{descriptor}").readlink())
        return ""

    return str(log) in (target(1), target(2))


def _is_of(process: psutil.Process, session: Session, root: str, known: dict[int, Session]) -> bool:
    """Return whether a process with the session's number belongs to it, and not to a later one with that number."""
    born = _born(process.pid)
    if session.is_over or born is None or born < session.born:
        return False
    if session.leads or _writes_to(process, session.log):
        return True
    parent = process.parent()
    return parent is not None and _part(parent, root, known) is not None


def _part(process: psutil.Process, root: str, known: dict[int, Session]) -> str | None:
    """Return the component that a process belongs to, or None if it is not part of this platform."""
    try:
        environment = process.environ()
        if environment.get(MARK) == root:
            return environment.get(PART, "?")
        session = known.get(os.getsid(process.pid))
        return session.part if session is not None and _is_of(process, session, root, known) else None
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None


def marked(settings: Settings) -> list[tuple[psutil.Process, str]]:
    """Return the platform's running processes with their components, except this process and its parents."""
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
    session = _session(settings, part)
    if session is None or not session.leads:
        return None
    try:
        process = psutil.Process(session.pid)
    except psutil.NoSuchProcess:
        return None
    return process if _lives(process) else None


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
    with whole_file(_pid_file(settings, part)) as work:
        work.write_text(f"{child.pid} {_born(child.pid)} {_boot()}", encoding="utf-8")
    return process


def _end(processes: list[psutil.Process]) -> None:
    """End processes: SIGTERM, then SIGKILL for those that stay; raise a LocalRunError if one survives."""
    alive = processes
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, alive = psutil.wait_procs(alive, timeout=_GRACE_SECONDS)
    if alive:
        raise LocalRunError(f"process {alive[0].pid} does not end, not even with SIGKILL; look at it by hand")


def end_all(settings: Settings, parts: set[str] | None = None) -> int:
    """End the marked processes, all or those of some components, until none is left; return how many there were.

    The pid files of the components go with them. One that survives, or others that keep appearing: a LocalRunError.
    """
    total = 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [process for process, part in marked(settings) if parts is None or part in parts]
        if not found:
            for path in (settings.var_dir / "run").glob("*.pid"):
                # Not of a component that has just been started.
                if (parts is None or path.stem in parts) and leader(settings, path.stem) is None:
                    path.unlink(missing_ok=True)
            return total
        _end(found)
        total += len(found)  # again: a process may have started another meanwhile
    raise LocalRunError("processes of the platform keep appearing; look at `shoplens status`")


def log_tail(path: Path, lines: int = 15) -> str:
    """Return the end of a log."""
    if not path.exists():
        return f"{path} does not exist"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
