"""The stages of `dvc.yaml`, run by one writer at a time and never longer than their parent process.

Killing `dvc` does not kill the command that it started. An orphaned stage would write outs at the same time as a new
run, so a stage locks its outs and exits when the `dvc` process (or Airflow task) above it is gone.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psutil
import typer
from filelock import FileLock, Timeout
from rich.console import Console

from shoplens.errors import SettingsError, StageBusyError
from shoplens.params import load_params
from shoplens.settings import Settings, load_settings

_LOCK_PATIENCE_SECONDS = 30.0  # an orphan notices its parent's death within a second; give it time to exit
_ORPHAN_EXIT = 75  # EX_TEMPFAIL: the data is fine, run again
console = Console(stderr=True, highlight=False, soft_wrap=True)


def _launcher() -> psutil.Process | None:
    """Return the nearest ancestor that is a `dvc` process, or else the parent."""
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
    """Run a stage's work as the only writer of its outs, and only while the process that started it lives.

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


STAGES: dict[str, str] = {
    "fetch": "events.stages:fetch",  # -> outs/raw
    "ingest": "events.stages:ingest",  # -> outs/events
    "validate": "expectations.stages:validate",  # -> outs/validated
    "features": "features.stages:features",  # -> outs/features
    "train_purchase": "training.fit:train_purchase",  # -> outs/purchase
    "train_next_item": "training.fit:train_next_item",  # -> outs/next_item
    "evaluate": "training.evaluate:evaluate",  # -> outs/evaluation
    "explain": "training.explain:explain",  # -> outs/explanation
    "package": "serving.package:package",  # -> outs/package
}


def stage_command(name: Annotated[str, typer.Argument(help="One of: " + ", ".join(STAGES))]) -> None:
    """Run one stage as the only writer of its outs; it ends with the process that started it."""
    from shoplens.cli import load

    if name not in STAGES:
        raise SettingsError(f"stage: must be one of {', '.join(STAGES)}; received {name!r}")
    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    with stage(name, settings):
        load(STAGES[name])(params, settings)
