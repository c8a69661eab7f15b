"""The `shoplens` command. It imports a folder of the project only when one of its commands is called."""

import errno
import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer

from shoplens.errors import ShopLensError

# command -> (module:function with Typer annotations, help)
COMMANDS: dict[str, tuple[str, str]] = {
    "ingest": (
        "events.cli:ingest",
        "Ingest a source's files into the lake through a mapping file, and print the account.",
    ),
    "quarantine": ("events.cli:quarantine", "List the quarantined rows of a lake, or replay corrected ones."),
    "lake": ("events.cli:lake", "Show a lake's content and the days that got late events, or clean it up."),
    "simulate": (
        "simulator.run:simulate_command",
        "Simulate a shop with known ground truth; its log can contain errors of chosen kinds.",
    ),
    "validate": ("expectations.cli:validate", "Check a lake, or some of its days, against the suites and for drift."),
    "stage": ("shoplens.stage:stage_command", "Run one stage of dvc.yaml with the parameters of params.yaml."),
    "materialize": ("features.cli:materialize", "Load snapshots and recent events into the online store."),
    "erase": ("features.cli:erase", "Remove one person from the stores, the copies of snapshots and the lake."),
    "collect": ("features.cli:collect", "Collect events over HTTP and Kafka: into the lake, and online at once."),
    "train": ("training.cli:train", "Train and evaluate one model, outside the graph."),
    "compare": ("training.cli:compare", "Train every model on one dataset and write the comparison table."),
    "tune": (
        "training.cli:tune",
        "Search the parameters of a model on validation rows; each trial is a DVC experiment.",
    ),
    "benchmark": (
        "training.cli:benchmark",
        "Train a sequence model on a public file, beside counts and neighbours; rank the full catalogue.",
    ),
    "table": ("serving.table.cli:table", "Train on a flat table with one row per session; write a report and a Bento."),
    "table-benchmark": (
        "training.table.cli:table_benchmark",
        "Cross-validate the models of a flat table, all on the same folds.",
    ),
    "explain": ("serving.cli:explain", "Explain the answer for one user: past orders and numbers by their effects."),
    "gate": ("serving.cli:gate", "Compare the packaged model with the one in service, and record the verdict."),
    "release": ("serving.cli:release", "Build the Bento of an accepted package and release it."),
    "supervise": ("serving.cli:supervise", "Keep `bentoml serve` running on the released model; follow releases."),
    "demo": ("shoplens.local.demo:demo", "Run the whole platform on this machine and leave the service running."),
    "stop": ("shoplens.local.demo:stop", "Stop exactly what `demo` started, including child processes."),
    "status": ("shoplens.local.demo:status", "Show what is running, where, and what is in service."),
}


def load(target: str) -> Callable[..., Any]:
    """Import `module:function` and return the function."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _not_called() -> None:
    """Placeholder on help pages for commands that are not called."""


def build_app(called: str | None) -> typer.Typer:
    """Return the command line with only the command `called` loaded, and placeholders for the others."""
    app = typer.Typer(
        name="shoplens",
        help="From an online shop's behaviour log to a live prediction service.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # locals may hold raw personal fields
    )
    for name, (target, text) in COMMANDS.items():
        app.command(name, help=text)(load(target) if name == called else _not_called)
    return app


_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_UNWRITABLE_WORDS = ("no space left", "disk quota", "file too large", "read-only file system", "disk is full")


def _is_unwritable(error: Exception) -> bool:
    """Return whether an error is that of a full or read-only disk; Polars and DuckDB have classes of their own."""
    return getattr(error, "errno", None) in _UNWRITABLE or any(word in str(error).lower() for word in _UNWRITABLE_WORDS)


def main() -> None:
    """Run the command line; print ShopLens errors, and those of a full disk, as messages without a traceback."""
    called = next((part for part in sys.argv[1:] if not part.startswith("-")), None)
    try:
        build_app(called)()
    except ShopLensError as error:
        sys.stderr.write(f"shoplens: {type(error).__name__}: {error}\n")
        sys.exit(1)
    # Any class, because each library reports a full disk by its own; everything else keeps its traceback.
    except Exception as error:
        if not _is_unwritable(error):
            raise
        first = (str(error).splitlines() or [""])[0][:200]
        sys.stderr.write(
            f"shoplens: disk: cannot be written ({first}). Free some space, or name another folder for temporary files "
            f"in TMPDIR, and run the command again; what it had not finished does not count\n"
        )
        sys.exit(1)
