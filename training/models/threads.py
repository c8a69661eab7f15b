"""How many threads numerical libraries use: several of them cost more than they save on little data."""

from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # inspects the loaded libraries, which would be slow to repeat for each prediction


def one_thread(api: str, *, when: bool) -> Any:
    """Return a context in which the libraries of an API, "blas" or "openmp", use one thread, if asked to."""
    return _controller().limit(limits=1 if when else None, user_api=api)
