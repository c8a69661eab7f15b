"""Shared code of the benchmarks: measuring a function in a separate process, and Markdown tables."""

import multiprocessing
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import psutil
from rich.console import Console

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
console = Console(width=120)


@dataclass(frozen=True)
class Usage:
    """The cost of a call; `peak_gb` is the peak memory of its process."""

    seconds: float
    cpu_seconds: float
    peak_gb: float


def peak_gb() -> float:
    """Return the peak memory of this process; `ru_maxrss` would include that of its parent."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise SystemExit("/proc/self/status: must have VmHWM; it has none: measure on Linux")
    return int(found[1]) * 1024 / 1e9


def measured(run: Callable[[], object]) -> Usage:
    """Call a function in this process."""
    cpu, started = time.process_time(), time.perf_counter()
    run()
    return Usage(time.perf_counter() - started, time.process_time() - cpu, peak_gb())


def _answer(sends: Connection, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    sends.send(function(*given))


def apart(function: Callable[..., T], *given: Any, limit_gb: float = float("inf")) -> T | None:
    """Call a function in a new process; return None if it was killed for exceeding `limit_gb`.

    Raises:
        SystemExit: The function failed.
    """
    spawn = multiprocessing.get_context("spawn")
    receives, sends = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_answer, args=(sends, function, given))
    child.start()
    sends.close()
    try:
        while not receives.poll(0.05):  # seconds
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(child.pid).memory_info().rss > limit_gb * 1e9:
                    child.kill()
                    return None
        answer: T = receives.recv()
    except EOFError:
        raise SystemExit(f"{', '.join(str(one) for one in given)}: failed; see above") from None
    finally:
        child.join()
    return answer


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in (columns, *rows)]
    lines.insert(1, "|---" * len(columns) + "|")
    return "\n".join(lines)
