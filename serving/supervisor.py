"""Keeps `bentoml serve` running on the released Bento and follows releases.

It is not an Airflow task, because a service outlives any run. When the link `current` changes, the new release is
started. A server that exits is restarted, with increasing delays while it keeps failing.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from serving.release import Locations, current_version
from shoplens.environment import tool_variables
from shoplens.files import read_json, write_json
from shoplens.settings import Settings

_PDEATHSIG = 1  # prctl(2): PR_SET_PDEATHSIG
_GRACE_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Runs `bentoml serve` for the released model, one server at a time."""

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._settings, self._host, self._port = settings, host, port
        self._where = Locations(settings)
        self._server: subprocess.Popen[bytes] | None = None
        self._ending = False

    def _start(self, version: str) -> None:
        release = self._where.releases / version
        environment = {
            **os.environ,
            **{name: value for name, value in tool_variables(self._settings.root).items() if name not in os.environ},
            "SHOPLENS_ROOT": str(release / "src"),
            "SHOPLENS_VAR": str(self._settings.var_dir),
            "CUDA_VISIBLE_DEVICES": "-1",  # single rows are faster on a CPU, and training needs the GPU
        }
        self._where.log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).with_name("bentoml")), "serve", str(release)]
        with self._where.log.open("ab") as log:
            self._server = subprocess.Popen(
                [*command, "--host", self._host, "--port", str(self._port)],
                cwd=release,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (no thread runs here)
            )
        status = {"pid": self._server.pid, "supervisor": os.getpid(), "port": self._port, "model_version": version}
        write_json(self._where.status, status)

    def _stop(self) -> None:
        """Stop the server and all its workers."""
        if self._server is None:
            return
        group = self._server.pid
        for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline and _group_alive(group, self._server):
                time.sleep(0.1)
        self._server.wait()
        self._server = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ending = True

    def run(self) -> None:
        """Supervise until SIGTERM or SIGINT, then stop the server and return."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        served: str | None = None
        started, pause, not_before = 0.0, 1.0, 0.0
        while not self._ending:
            wanted = current_version(self._settings)
            now = time.monotonic()
            if self._server is not None and self._server.poll() is not None:
                self._stop()
                pause = 1.0 if now - started > _STEADY_SECONDS else min(pause * 2, _MAX_PAUSE_SECONDS)
                not_before, served = now + pause, None
            if wanted is not None and wanted != served and now >= not_before:
                self._stop()
                self._start(wanted)
                served, started = wanted, now
            if wanted is None and served is not None:
                self._stop()
                served = None
            time.sleep(0.3)
        self._stop()
        if self._where.status.exists() and read_json(self._where.status)["supervisor"] == os.getpid():
            self._where.status.unlink()


def _group_alive(group: int, leader: "subprocess.Popen[bytes]") -> bool:
    leader.poll()
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
