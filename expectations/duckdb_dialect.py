"""DuckDB for Great Expectations' SQL engine.

Great Expectations fetches a result after its connection is closed, and closing rolls back. DuckDB 2 drops a pending
result on rollback (`fetchall` then gives no row, and the engine fails with "list index out of range"). Validation only
reads, so this dialect has no transaction to roll back.
"""

from typing import Any

import duckdb_engine
import sqlalchemy.dialects


class ReadingDialect(duckdb_engine.Dialect):  # type: ignore[misc]  # duckdb-engine ships no types
    """duckdb-engine's dialect without transactions: for reading only."""

    supports_statement_cache = False

    def do_begin(self, connection: Any) -> None:
        """Begin nothing."""

    def do_rollback(self, connection: Any) -> None:
        """Roll nothing back, so that a result outlives its connection's return to the pool."""


def connection_string(path: str) -> str:
    """Return the SQLAlchemy address of a DuckDB file, after making the dialect known."""
    sqlalchemy.dialects.registry.register("duckdb.reading", __name__, ReadingDialect.__name__)
    return f"duckdb+reading:///{path}"
