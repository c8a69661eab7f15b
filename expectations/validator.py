"""Runs the suites over Parquet tables on DuckDB, and renders the results as Data Docs.

Great Expectations fetches a result after closing its connection, and closing rolls back. DuckDB 2 discards a pending
result on rollback (`fetchall` returns no rows and the engine fails with "list index out of range"). Validation only
reads, so its SQLAlchemy dialect opens no transaction.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import duckdb_engine
import great_expectations as gx
import sqlalchemy.dialects
from great_expectations import ExpectationSuite
from great_expectations.data_context import AbstractDataContext

from expectations.suites import build_suites
from shoplens.errors import BrokenTableError
from shoplens.files import whole_folder
from shoplens.settings import Settings

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


_EXAMPLES = 3
_SUMMARY = {"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES}


@dataclass(frozen=True)
class Finding:
    """A row expectation that failed."""

    kind: str  # the type of the expectation
    column: str  # the column that it checks
    reason: str  # the reason under which failing rows are quarantined
    count: int  # number of failing rows
    examples: tuple[Any, ...]  # a few failing values


@dataclass(frozen=True)
class TableResult:
    """The result of the suite of one table."""

    table: str  # name of the table
    rows: int  # number of rows checked
    expectations: list[tuple[str, str, int]]  # (type, column, number of failing rows), in the order of the suite
    findings: list[Finding]  # the row expectations that failed

    @property
    def failed(self) -> dict[str, int]:
        """Number of failing rows per reason, sorted by reason; a row may fail for several reasons."""
        return {found.reason: found.count for found in sorted(self.findings, key=lambda found: found.reason)}


@contextmanager
def open_tables(database: Path, tables: Mapping[str, Sequence[Path]]) -> Iterator[AbstractDataContext]:
    """Yield an in-memory Great Expectations context over views of Parquet files in a DuckDB file.

    A column that one of several files lacks is null for its rows.
    """
    with duckdb.connect(str(database), config={"memory_limit": MEMORY_LIMIT}) as connection:
        for name, paths in tables.items():
            connection.read_parquet([str(path) for path in paths], union_by_name=True).create_view(name)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    yield context


def _column(config: Any) -> str:
    kwargs = config.kwargs
    return str(kwargs.get("column") or kwargs.get("column_A") or "")


def _raise_broken(table: str, result: Any) -> None:
    """Raise the error for a failed table expectation."""
    config, observed = result.expectation_config, result.result.get("observed_value")
    what = f"{config.type}({_column(config)})" if _column(config) else config.type
    fix = {
        "expect_column_to_exist": "the column is missing. Map it, or add the file that contains it",
        "expect_table_row_count_to_be_between": f"it must have at least 1 row, but has {observed}. Check the source",
    }.get(config.type, f"observed {observed}")
    raise BrokenTableError(f"table {table}: {what} failed: {fix}")


def check_errors(table: str, results: list[Any]) -> None:
    """Raise a BrokenTableError if an expectation could not be computed."""
    for result in results:
        info = result.exception_info or {}
        for error in [info, *(part for part in info.values() if isinstance(part, dict))]:
            if error.get("raised_exception"):
                raise BrokenTableError(
                    f"table {table}: {result.expectation_config.type} could not be computed: "
                    f"{error.get('exception_message')}"
                )


class TableValidator:
    """Validates the tables of one context; the data source is created once."""

    def __init__(self, context: AbstractDataContext, database: Path) -> None:
        self.context = context
        self._source = context.data_sources.add_sql("lake", connection_string=connection_string(str(database)))
        self._suites = build_suites()

    def run(self, table: str, suite: ExpectationSuite, keys: Sequence[str] = ()) -> list[Any]:
        """Run a suite over a table or view, for Data Docs too, where `keys` are the columns that identify a row."""
        asset = self._source.add_table_asset(table, table_name=table)
        batch = asset.add_batch_definition_whole_table("whole")
        definition = self.context.validation_definitions.add(
            gx.ValidationDefinition(name=table, data=batch, suite=self.context.suites.add(suite))
        )
        checkpoint = self.context.checkpoints.add(
            gx.Checkpoint(
                name=table,
                validation_definitions=[definition],
                result_format=_SUMMARY | ({"unexpected_index_column_names": list(keys)} if keys else {}),
            )
        )
        (outcome,) = checkpoint.run().run_results.values()
        return list(outcome.results)

    def validate(self, table: str) -> TableResult:
        """Run the suite of `table`.

        Raises:
            BrokenTableError: a table expectation fails, or an expectation cannot be computed.
        """
        results = self.run(table, self._suites[table])
        broken = [r for r in results if not r.success and "reason" not in r.expectation_config.meta]
        if broken:
            _raise_broken(table, broken[0])
        check_errors(table, results)
        rows = next((int(r.result["element_count"]) for r in results if "element_count" in r.result), 0)
        expectations, findings = [], []
        for result in results:
            config, count = result.expectation_config, int(result.result.get("unexpected_count") or 0)
            expectations.append((config.type, _column(config), count))
            if not result.success:
                examples = tuple(result.result.get("partial_unexpected_list") or ())
                findings.append(Finding(config.type, _column(config), config.meta["reason"], count, examples))
        return TableResult(table, rows, expectations, findings)


def require_few_bad(result: TableResult, bad: int, max_bad_share: float) -> None:
    """Raise if more than `max_bad_share` of a table's rows are bad; `bad` may be a lower bound of their number.

    Raises:
        BrokenTableError: naming the expectation that most rows fail, their number, and up to three example values.
    """
    if bad <= max_bad_share * result.rows:
        return
    worst = max(result.findings, key=lambda found: found.count)
    raise BrokenTableError(
        f"table {result.table}: {bad:,} of {result.rows:,} rows are bad, more than expectations.max_bad_share "
        f"{max_bad_share:g}. Most of them fail {worst.kind}({worst.column}): {worst.count:,} rows, for example "
        f"{list(worst.examples)}. Correct the mapping or the source; raise expectations.max_bad_share only if these "
        f"rows may be discarded"
    )


def data_docs_index(settings: Settings) -> Path:
    """Return the path of the start page; it exists once a validation has run on this machine."""
    return settings.var_dir / "data_docs" / "index.html"


def build_data_docs(context: AbstractDataContext, settings: Settings) -> Path:
    """Render the validation results in `context`, replacing the pages of the previous run."""
    target = data_docs_index(settings).parent
    with whole_folder(target) as work:
        site = {
            "class_name": "SiteBuilder",
            "site_name": "ShopLens",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(work)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        context.add_data_docs_site(site_name="shoplens", site_config=site)
        context.build_data_docs(site_names=["shoplens"])
    return data_docs_index(settings)
