"""Starts the explanation worker on first use, sends it requests, and replaces it if it dies or stops responding."""

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
    """An explanation worker shared by threads; it handles one request at a time."""

    def __init__(self, package: Path, settings: Settings) -> None:
        """Configure the worker; it starts with the first request."""
        self._command = [sys.executable, "-m", "serving.explanations.worker", str(package)]
        self._environment = {**os.environ, "SHOPLENS_ROOT": str(settings.root), "SHOPLENS_VAR": str(settings.var_dir)}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready, self._closed, self._read = False, False, b""
        self._failed: str | None = None  # why the package cannot be explained

    @property
    def pid(self) -> int | None:
        """PID of the running worker; None if none is running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def ask(self, user_id: str, item_id: str | None, seconds: float) -> dict[str, Any]:
        """Return the answer to a request, as JSON.

        Args:
            user_id: The user.
            item_id: The item whose rank is explained; None for the purchase.
            seconds: How long to wait: half of the time for other requests, half for the worker's start and answer.

        Raises:
            ModelError: the request cannot be answered.
            ExplainerBusyError: there is no answer in time. A worker that is still starting is left running; a ready one
                is stopped.
            RuntimeError: the worker failed at this request.
        """
        if not self._lock.acquire(timeout=seconds / 2):
            raise ExplainerBusyError(f"explain: other requests took longer than {seconds / 2:g} s. Ask again shortly")
        try:
            found = self._asked({"user_id": user_id, "item_id": item_id}, time.monotonic() + seconds / 2)
        finally:
            self._lock.release()
        if "error" in found:
            raise ModelError(found["error"])
        if "fault" in found:
            raise RuntimeError(f"explain: the worker failed with {found['fault']}; see the service's log")
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
                    self.stop()  # its late answer would be read as the answer to the next request
                    raise ExplainerBusyError("explain: the answer took too long. Ask again shortly") from None
                raise ExplainerBusyError("explain: the explanation worker is starting. Ask again shortly") from None
        raise ExplainerBusyError("explain: the explanation worker ended twice; see the service's log")

    def _start(self, deadline: float) -> None:
        """Start the worker if there is none, and wait until it is ready."""
        if self._failed is not None or self._closed:
            raise ExplainerBusyError(f"explain: the worker cannot start ({self._failed or 'the service is ending'})")
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
            self._failed = json.loads(self._line(deadline)).get("error")
            if self._failed is not None:
                self.stop()
                raise ExplainerBusyError(f"explain: the worker cannot start ({self._failed})")
            self._ready = True

    def _exchange(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise EOFError
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        found: dict[str, Any] = json.loads(self._line(deadline))
        return found

    def _line(self, deadline: float) -> bytes:
        """Return the worker's next line; raise EOFError if it exits, TimeoutError at the deadline."""
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

    def close(self) -> None:
        """Stop the worker for good."""
        self._closed = True
        self.stop()

    def stop(self) -> None:
        """Stop the worker; the next request starts another one."""
        if self._process is None:
            return
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()
        self._process = None
