"""Which engine computes the views."""

from collections.abc import Iterator
from contextlib import contextmanager

from features.engine.contract import Engine, EngineName
from features.engine.duck import DuckEngine


@contextmanager
def opened(name: EngineName, duck: DuckEngine) -> Iterator[Engine]:
    """Yield the engine of that name; `duck` is open already, for it computes what is beside the views."""
    if name == "duckdb":
        yield duck
        return
    from features.engine.spark import spark

    with spark() as engine:
        yield engine
