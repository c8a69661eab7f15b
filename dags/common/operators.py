"""An operator that runs one shell command in the pipeline's environment."""

import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from common.constants import ROOT
from common.graph import outs_digest

_PDEATHSIG = 1  # prctl(2): PR_SET_PDEATHSIG
# Airflow's interpreter, its settings (with its database and its keys), and the passwords of the stores behind it.
_AIRFLOWS_OWN = re.compile(
    r"VIRTUAL_ENV|PYTHONPATH|PYTHONHOME|_?AIRFLOW_.*|CELERY_.*|PG[A-Z]+|POSTGRES_.*|.*PASSWORD.*"
)
# What a command needs: the project's settings, the mark of its platform, the account of DVC's remote.
_ALWAYS = re.compile(r"SHOPLENS_.*|AWS_.*")


def command_environment() -> dict[str, str]:
    """Return the environment for a command: the current one without Airflow's interpreter, database and keys."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if _ALWAYS.fullmatch(name) or not _AIRFLOWS_OWN.fullmatch(name)
    }
    return {**kept, "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"}


def _end_with_task() -> None:
    """Terminate the command when its task is killed, so that it stops writing outs."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


class CommandOperator(BaseOperator):
    """Runs a command in the project folder and logs its output line by line."""

    template_fields: Sequence[str] = ("command",)

    def __init__(
        self,
        *,
        command: str,  # as typed in a shell, without shell syntax
        refusal: int | None = None,  # an exit status that is a result, not a failure
        digest_of: str | None = None,  # the stage whose digest outlet events carry; else the last line has it
        beside: Path | None = None,  # state that DVC does not track: while it is missing, the stage runs in any case
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.command, self.refusal, self.digest_of, self.beside = command, refusal, digest_of, beside
        self._process: subprocess.Popen[str] | None = None

    def _run(self) -> tuple[int, str]:
        """Return the exit status and the last line of output."""
        command = self.command
        if self.beside is not None and not self.beside.exists():
            command += " --force"
        self.log.info("$ cd %s && %s", ROOT, command)
        self._process = subprocess.Popen(
            shlex.split(command),
            cwd=ROOT,
            env=command_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_task,  # noqa: PLW1509  (runs one system call, takes no lock)
        )
        last = ""
        if self._process.stdout is not None:
            for line in self._process.stdout:
                if line.strip():
                    last = line.rstrip()
                    self.log.info("%s", last)
        return self._process.wait(), last

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the command; return the exit status, and the content of the last line if it is JSON."""
        status, last = self._run()
        if status != 0 and status != self.refusal:
            raise AirflowException(f"{self.command}: ended with {status}; its last line: {last}")
        answer: dict[str, Any] = {"exit": status}
        if last.startswith("{"):
            answer |= json.loads(last)
        if self.digest_of is not None:
            answer["digest"] = outs_digest(ROOT / "dvc.lock", self.digest_of)
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"digest": answer.get("digest", "")}
        return answer

    def on_kill(self) -> None:
        """Terminate the command and its children."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
