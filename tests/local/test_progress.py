import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from shoplens.local.airflow import AirflowApi
from shoplens.local.progress import Follower
from shoplens.settings import Settings

TASK = {
    "task_id": "fetch",
    "state": "running",
    "try_number": 1,
    "start_date": "2026-01-01T00:00:00+00:00",
    "end_date": "2026-01-01T00:00:07+00:00",
}

CHATTER = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E0000 00:00:1700000000.394469   19253 node_def_util.cc:682] NodeDef mentions",
    "/a/b/backend.py:332: DeprecationWarning: fetch() is deprecated, use to() instead. NodeDef",
    "  NodeDef = result.fetch()",
)


@pytest.mark.parametrize("said", ["read from [/usr/lib] and [a, b]", "[red]", "50% of [/]"])
def test_what_a_tool_prints_is_shown_as_it_is_and_never_read_as_markup(tmp_path: Path, said: str) -> None:
    folder = tmp_path / "var/airflow/logs/dag_id=computation/run_id=r/task_id=fetch"
    folder.mkdir(parents=True)
    lines = [json.dumps({"event": words}) for words in ("before", said, " ", *CHATTER)]
    (folder / "attempt=1.log").write_text("\n".join(lines))
    console = Console(file=StringIO(), width=200)
    follower = Follower(AirflowApi(Settings(root=tmp_path), 1), console, "computation", "r")
    follower._spoke = float("-inf")  # a long silence: the running task's last words are printed
    follower._lines([TASK])
    follower._spoke = float("-inf")
    follower._lines([TASK])
    console.print(follower._table([TASK]))
    shown = console.file.getvalue()
    assert "before" not in shown
    assert "NodeDef" not in shown
    assert shown.count(said) >= 2
    assert "7.0 s" in shown
