"""What every stage of `dvc.yaml` needs around its work: one writer at a time, and no life after its parent.

Killing `dvc` leaves the command that it started alive. A stage that went on alone would write outs that a new run is
writing too, so a stage holds a lock on its outs and ends itself when the `dvc` (or Airflow task) above it is gone.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from rich.console import Console

from shoplens.errors import StageBusyError
from shoplens.settings import Settings

_LOCK_PATIENCE_SECONDS = 30.0  # an orphan notices its parent's death within a second; leave it time to end
_ORPHAN_EXIT = 75  # EX_TEMPFAIL: nothing is wrong with the data, run again
console = Console(stderr=True, highlight=False, soft_wrap=True)


def _launcher() -> psutil.Process | None:
    """Return the nearest ancestor that runs `dvc`, else the direct parent."""
    parents = psutil.Process().parents()
    for parent in parents:
        try:
            if any(Path(part).name == "dvc" for part in parent.cmdline()[:3]):
                return parent
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return parents[0] if parents else None


def _end_with(parent: psutil.Process) -> None:
    while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.5)
    os._exit(_ORPHAN_EXIT)


@contextmanager
def stage(name: str, settings: Settings) -> Iterator[None]:
    """Run a stage's work as the only writer of its outs, for no longer than whatever started it lives.

    Raises:
        StageBusyError: another process holds the stage for longer than half a minute.
    """
    launcher = _launcher()
    if launcher is not None and launcher.pid != 1:
        threading.Thread(target=_end_with, args=(launcher,), daemon=True, name="launcher-watch").start()
    lock_path = settings.var_dir / "locks" / f"{name}.lock"
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_path, timeout=_LOCK_PATIENCE_SECONDS, poll_interval=0.2)
    try:
        lock.acquire()
    except Timeout:
        raise StageBusyError(f"stage {name}: another process is writing it (lock {lock_path}); wait for it") from None
    try:
        started = time.monotonic()
        console.print(f"[bold]{name}[/bold] started")
        yield
        console.print(f"[bold]{name}[/bold] done in {time.monotonic() - started:.1f} s")
    finally:
        lock.release()
