"""A SQLAlchemy dialect that lets Great Expectations' SQL engine read DuckDB 2.

Great Expectations fetches a result after closing its connection, and closing rolls back. DuckDB 2 discards a pending
result on rollback (`fetchall` returns no rows and the engine fails with "list index out of range"). Validation only
reads, so this dialect opens no transaction.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import duckdb_engine
import sqlalchemy.dialects

MEMORY_LIMIT = "2GB"  # DuckDB writes what does not fit, such as the IDs of a large table, to its temporary directory


class ReadingDialect(duckdb_engine.Dialect):  # type: ignore[misc]  # duckdb-engine ships no types
    """duckdb-engine's dialect without transactions, for reading only."""

    supports_statement_cache = False

    def do_begin(self, connection: Any) -> None:
        """Do nothing: there are no transactions."""

    def do_rollback(self, connection: Any) -> None:
        """Do nothing, so that a result survives the return of its connection to the pool."""


def connection_string(path: str) -> str:
    """Register the dialect and return the SQLAlchemy URL of a DuckDB file."""
    sqlalchemy.dialects.registry.register("duckdb.reading", __name__, ReadingDialect.__name__)
    return f"duckdb+reading:///{path}?memory_limit={MEMORY_LIMIT}"


@contextmanager
def bounded_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield an in-memory connection in UTC that is limited to MEMORY_LIMIT and overflows to a temporary directory."""
    with (
        tempfile.TemporaryDirectory() as folder,
        duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": folder}) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
