"""Show the progress of a run in the terminal: one line per stage, with state, seconds and latest output."""

import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from shoplens.errors import LocalRunError
from shoplens.local.airflow import ACTIVE, AirflowApi

_SIGNS = {"success": "[green]✔[/]", "failed": "[red]✘[/]", "running": "[yellow]▶[/]", "skipped": "[dim]-[/]"}
_QUIET_SECONDS = 20.0
# Library output (glog and absl lines, Python warnings) is not progress; it remains in the log.
_CHATTER = re.compile(r"[IWEF]\d{4} \d\d:\d\d:|WARNING: All log messages before absl")
_WARNING = re.compile(r"\S+:\d+: \w*Warning: ")  # the line after it is the source line that caused it
_FINAL = ("success", "failed", "skipped", "upstream_failed", "removed")


def seconds_of(task: dict[str, Any]) -> float:
    """Return the number of seconds that a task has run."""
    if not task["start_date"]:
        return 0.0
    begin = datetime.fromisoformat(task["start_date"])
    end = datetime.fromisoformat(task["end_date"]) if task["end_date"] else datetime.now(UTC)
    return (end - begin).total_seconds()


def progress_of(lines: list[str]) -> list[str]:
    """Return only the lines that the stage itself printed."""
    before = ["", *lines]
    return [
        line
        for last, line in zip(before, lines, strict=False)
        if not _CHATTER.match(line) and not _WARNING.match(line) and not _WARNING.match(last)
    ]


class Follower:
    """Follows a run until it ends."""

    def __init__(self, api: AirflowApi, console: Console, dag: str, run_id: str) -> None:
        self._api, self._console, self._dag, self._run = api, console, dag, run_id
        self._said: dict[str, str] = {}
        self._spoke = time.monotonic()

    def _words(self, task: dict[str, Any]) -> str:
        if task["state"] != "running":
            return ""
        lines = self._api.log_lines(self._dag, self._run, task["task_id"], task["try_number"])
        said = progress_of([line.strip() for line in lines if line.strip()])
        return said[-1][:90] if said else ""

    def _table(self, tasks: list[dict[str, Any]]) -> Table:
        table = Table.grid(padding=(0, 2))
        for task in sorted(tasks, key=lambda t: t["start_date"] or "9"):
            sign = _SIGNS.get(task["state"] or "", "·")
            shown = f"{seconds_of(task):6.1f} s" if task["start_date"] else ""
            table.add_row(sign, f"{self._dag}.{task['task_id']}", shown, f"[dim]{escape(self._words(task))}[/]")
        return table

    def _lines(self, tasks: list[dict[str, Any]]) -> None:
        """Print changes; if nothing has changed for a while, print what is running."""
        for task in tasks:
            state, name = task["state"] or "waiting", task["task_id"]
            if self._said.get(name, "waiting") != state and state in ("running", *_FINAL):
                after = "" if state == "running" else f" after {seconds_of(task):.1f} s"
                self._console.print(f"{self._dag}.{name}: {state}{after}")
                self._said[name], self._spoke = state, time.monotonic()
        if time.monotonic() - self._spoke > _QUIET_SECONDS:
            for task in tasks:
                if task["state"] == "running":
                    words = escape(self._words(task))  # tool output may look like markup
                    self._console.print(f"{self._dag}.{task['task_id']}: {seconds_of(task):.0f} s, {words}")
            self._spoke = time.monotonic()

    def _state(self) -> str:
        self._api.require_components()  # without a scheduler, a run would never change
        return self._api.run_state(self._dag, self._run)

    def follow(self) -> list[dict[str, Any]]:
        """Show progress until the run has ended; return its task instances.

        Raises:
            LocalRunError: the run failed; the message has the end of the failed task's log.
        """
        if self._console.is_terminal and sys.stdout.isatty():
            with Live(console=self._console, refresh_per_second=4) as live:
                while (state := self._state()) in ACTIVE:
                    live.update(self._table(self._api.tasks(self._dag, self._run)))
                    time.sleep(1)
                live.update(self._table(self._api.tasks(self._dag, self._run)))
        else:
            while (state := self._state()) in ACTIVE:
                self._lines(self._api.tasks(self._dag, self._run))
                time.sleep(1)
            self._lines(self._api.tasks(self._dag, self._run))
        tasks = self._api.tasks(self._dag, self._run)
        if state == "failed":
            self._raise_failed(tasks)
        return tasks

    def _raise_failed(self, tasks: list[dict[str, Any]]) -> None:
        failed = [task for task in tasks if task["state"] == "failed"]
        if not failed:
            raise LocalRunError(f"run {self._run} of {self._dag} failed without a failed task: it was marked as failed")
        task = failed[0]
        lines = self._api.log_lines(self._dag, self._run, task["task_id"], task["try_number"])
        raise LocalRunError(
            f"{self._dag}.{task['task_id']} failed; the end of its log:\n" + "\n".join(lines[-25:]) + "\n\nAirflow is "
            f"still up at {self._api.url}; fix the cause and run `make demo` again, or end it with `make stop`"
        )
