"""DuckDB for Great Expectations' SQL engine.

Great Expectations fetches a result after its connection is closed, and closing rolls back. DuckDB 2 drops a pending
result on rollback (`fetchall` then gives no row, and the engine fails with "list index out of range"). Validation only
reads, so this dialect has no transaction to roll back.
"""

from pathlib import Path
from typing import Any

import duckdb
import duckdb_engine
import sqlalchemy.dialects

MEMORY_LIMIT = "2GB"  # what does not fit, such as the ids of a large table, is spilled beside the database


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
    return f"duckdb+reading:///{path}?memory_limit={MEMORY_LIMIT}"


def bounded_connection(database: str, spill: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection of bounded memory, in UTC, that spills to the folder `spill`."""
    connection = duckdb.connect(database, config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(spill)})
    connection.execute("SET TimeZone = 'UTC'")
    return connection
