"""Starts the explanation worker on first use, asks it, and replaces it when it has died or does not answer."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from shoplens.errors import ExplainerBusyError, ModelError
from shoplens.settings import Settings

_CODE = Path(__file__).resolve().parents[2]
_CHUNK = 1 << 16


class ExplainProcess:
    """One explanation worker, shared by threads, which ask it one after the other."""

    def __init__(self, package: Path, settings: Settings) -> None:
        """Take what the process will serve; nothing is started yet."""
        self._command = [sys.executable, "-m", "serving.explanations.worker", str(package)]
        self._environment = {**os.environ, "SHOPLENS_ROOT": str(settings.root), "SHOPLENS_VAR": str(settings.var_dir)}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready, self._read = False, b""

    @property
    def pid(self) -> int | None:
        """Number of the running process; None if there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def ask(self, user_id: str, item_id: str | None, seconds: float) -> dict[str, Any]:
        """Return the answer to a request, as JSON.

        Args:
            user_id: The user.
            item_id: The item whose rank is explained; None for the purchase.
            seconds: How long to wait: for other requests, for the process to start, and for its answer.

        Raises:
            ModelError: the request cannot be answered.
            ExplainerBusyError: there is no answer yet. The process goes on starting; one that is ready but does not
                answer in time is stopped.
        """
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise ExplainerBusyError(f"explain: other requests took longer than {seconds:g} s. Ask again shortly")
        try:
            found = self._asked({"user_id": user_id, "item_id": item_id}, deadline)
        finally:
            self._lock.release()
        if "error" in found:
            raise ModelError(found["error"])
        answer: dict[str, Any] = found["answer"]
        return answer

    def _asked(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        for _ in range(2):  # a process that died since the last request is replaced once
            try:
                self._start(deadline)
                return self._exchange(request, deadline)
            except (BrokenPipeError, EOFError):
                self.stop()
            except TimeoutError:
                if self._ready:
                    self.stop()  # its late answer would be taken for that to the next request
                    raise ExplainerBusyError("explain: the answer took too long. Ask again shortly") from None
                raise ExplainerBusyError("explain: the explanation worker is starting. Ask again shortly") from None
        raise ExplainerBusyError("explain: the explanation worker ended twice; see the service's log")

    def _start(self, deadline: float) -> None:
        """Start the process if there is none, and wait until it is ready."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                cwd=_CODE,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
            self._ready, self._read = False, b""
        if not self._ready:
            self._line(deadline)
            self._ready = True

    def _exchange(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise EOFError
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        found: dict[str, Any] = json.loads(self._line(deadline))
        return found

    def _line(self, deadline: float) -> bytes:
        """Return the next line that the process writes; raise an EOFError if it ends, a TimeoutError if it is late."""
        if self._process is None or self._process.stdout is None:
            raise EOFError
        out = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                read = os.read(out, _CHUNK)
                if not read:
                    raise EOFError
                self._read += read
        line, _, self._read = self._read.partition(b"\n")
        return line

    def stop(self) -> None:
        """Stop the process; the next request starts another one."""
        if self._process is None:
            return
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()
        self._process = None
