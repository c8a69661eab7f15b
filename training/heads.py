"""The heads: the tasks for which a run has a model, and why one is missing.

A log may have nothing to learn one of the tasks from, because its source records no purchases or no items. The training
stage of that task then writes the reason in place of a model, and every later stage continues with the other head.
"""

from pathlib import Path

from shoplens.errors import ModelError
from shoplens.files import read_json, write_json
from training.rows import TASKS, Task

_FILE = "missing.json"


def leave_out(folder: Path, reason: str) -> None:
    """Write the reason why a task has no model to the task's folder."""
    write_json(folder / _FILE, {"reason": reason})


def missing_heads(outs: Path) -> dict[Task, str]:
    """Return the tasks that have no model, with the reason."""
    return {task: read_json(outs / task / _FILE)["reason"] for task in TASKS if (outs / task / _FILE).is_file()}


def heads(outs: Path) -> tuple[Task, ...]:
    """Return the tasks that have a model.

    Raises:
        ModelError: there is none.
    """
    missing = missing_heads(outs)
    if len(missing) == len(TASKS):
        raise ModelError("train: at least one task must have a model; none has. " + " ".join(missing.values()))
    return tuple(task for task in TASKS if task not in missing)
