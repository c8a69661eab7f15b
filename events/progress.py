"""How far a long job is, said now and then."""

import time
from collections.abc import Callable

_SECONDS = 10.0


class Progress:
    """Says what it is told, at most once in ten seconds, and nothing of a job that ends sooner."""

    def __init__(self, say: Callable[[str], object], seconds: float = _SECONDS) -> None:
        """Take what shows a line, and how long to be silent."""
        self._say, self._seconds = say, seconds
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        """Say a line, if it is time."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            self._say(line)
