"""Find and stop the platform's processes, identified by a mark in their environment or by their session.

Children inherit environment and session, so both find every descendant, even if its parent was killed and init adopted
it. Both are needed, because a program that sets its own title may overwrite the memory of its environment. Processes
without a mark of this project folder are never touched.

Session numbers are reused: after a reboot, after a container restart (which may keep the boot ID), or once every
process of the session has ended. A PID file therefore also records the boot ID and the start time of the session's
leader, and the session identifies a process only

- in the same boot;
- while the same leader is alive (if another process leads that number, it is a different session: Linux does not reuse
  the number of an existing session);
- once the leader is gone: if the process writes to the component's log, or is a child of one of our processes.
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
PART = "SHOPLENS_PART"  # value: the component, inherited by its children
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
        """Whether the leader is alive, or a zombie that still occupies the number."""
        return _born(self.pid) == self.born

    @property
    def is_over(self) -> bool:
        """Whether another process has the number, which means that no process of the session is left."""
        return _born(self.pid) not in (None, self.born)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _born(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot, unaffected by clock changes; None if it is gone.

    Together with the boot ID and the PID, it identifies a process uniquely.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # proc(5): starttime is field 22; the name before may hold anything


def _pid_file(settings: Settings, part: str) -> Path:
    return settings.var_dir / "run" / f"{part}.pid"


def _session(settings: Settings, part: str) -> Session | None:
    """Return a component's session from its PID file; None if the file is missing, truncated or from another boot."""
    path = _pid_file(settings, part)
    try:
        pid, born, boot = path.read_text(encoding="utf-8").split()
        return Session(part, int(pid), int(born), path.with_suffix(".log")) if boot == _boot() else None
    except (OSError, ValueError):
        return None


def sessions(settings: Settings) -> dict[int, Session]:
    """Return the sessions of this project's platform by number, from the PID files of this boot."""
    names = [path.stem for path in (settings.var_dir / "run").glob("*.pid")]
    return {session.pid: session for name in names if (session := _session(settings, name)) is not None}


def _writes_to(process: psutil.Process, log: Path) -> bool:
    def target(descriptor: int) -> str:
        with contextlib.suppress(OSError):
            return str(Path(f"/proc/{process.pid}/fd/{descriptor}").readlink())
        return ""

    return str(log) in (target(1), target(2))


def _is_of(process: psutil.Process, session: Session, root: str, known: dict[int, Session]) -> bool:
    """Return whether a process with the session's number belongs to it, and not to a later session with that number."""
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
    """Return a component's first process from its PID file; None if it is no longer running."""
    session = _session(settings, part)
    if session is None or not session.leads:
        return None
    try:
        process = psutil.Process(session.pid)
    except psutil.NoSuchProcess:
        return None
    return process if _lives(process) else None


def signs(settings: Settings, part: str) -> dict[str, str]:
    """Return the variables that mark a process of this project's platform and its children."""
    return {MARK: str(settings.root), PART: part}


def start(settings: Settings, part: str, command: list[str], environment: dict[str, str]) -> psutil.Process:
    """Start a component in its own session, with its output in var/run/PART.log."""
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
    """Terminate processes with SIGTERM, then SIGKILL; raise a LocalRunError if one survives."""
    alive = processes
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, alive = psutil.wait_procs(alive, timeout=_GRACE_SECONDS)
    if alive:
        raise LocalRunError(f"process {alive[0].pid} does not end, even with SIGKILL; inspect it manually")


def end_all(settings: Settings, parts: set[str] | None = None) -> int:
    """Terminate all marked processes, or those of some components, until none is left; return their number.

    This also removes the components' PID files. It raises a LocalRunError if a process survives, or if new ones keep
    appearing.
    """
    total = 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [process for process, part in marked(settings) if parts is None or part in parts]
        if not found:
            for path in (settings.var_dir / "run").glob("*.pid"):
                # Except of a component that has just been started.
                if (parts is None or path.stem in parts) and leader(settings, path.stem) is None:
                    path.unlink(missing_ok=True)
            return total
        _end(found)
        total += len(found)  # repeat: a process may have started another one in the meantime
    raise LocalRunError("processes of the platform keep appearing; see `shoplens status`")


def log_tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    if not path.exists():
        return f"{path} does not exist"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
