"""Running the suites over Parquet tables on DuckDB."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import great_expectations as gx
from great_expectations import ExpectationSuite
from great_expectations.data_context import AbstractDataContext

from expectations.duckdb_dialect import MEMORY_LIMIT, connection_string
from expectations.suites import build_suites
from shoplens.errors import BrokenTableError

_EXAMPLES = 3
_SUMMARY = {"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES}


@dataclass(frozen=True)
class Finding:
    """What one row expectation found.

    Attributes:
        kind: The expectation's type.
        column: What it is about.
        reason: Under which a failing row goes to quarantine.
        count: Rows that fail.
        examples: Values of a few of them.
    """

    kind: str
    column: str
    reason: str
    count: int
    examples: tuple[Any, ...]


@dataclass(frozen=True)
class TableResult:
    """What the suite of one table found.

    Attributes:
        table: Which.
        rows: Rows checked.
        expectations: (expectation, column, rows that fail) in the order of the suite.
        findings: The row expectations that some row fails.
    """

    table: str
    rows: int
    expectations: list[tuple[str, str, int]]
    findings: list[Finding]

    @property
    def failed(self) -> dict[str, int]:
        """Return reason -> rows that fail for it, sorted; a row may fail for several."""
        return {found.reason: found.count for found in sorted(self.findings, key=lambda found: found.reason)}


def create_view(connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path]) -> None:
    """Make the rows of some Parquet files a view; a column that only some of them have is empty in the others."""
    connection.read_parquet([str(path) for path in paths], union_by_name=True).create_view(name)


@contextmanager
def open_tables(database: Path, tables: Mapping[str, Path | Sequence[Path]]) -> Iterator[AbstractDataContext]:
    """Yield an in-memory Great Expectations context over views of Parquet files in a DuckDB file."""
    with duckdb.connect(str(database), config={"memory_limit": MEMORY_LIMIT}) as connection:
        for name, paths in tables.items():
            create_view(connection, name, [paths] if isinstance(paths, Path) else paths)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    yield context


def _column(config: Any) -> str:
    kwargs = config.kwargs
    return str(kwargs.get("column") or kwargs.get("column_A") or "")


def _raise_broken(table: str, result: Any) -> None:
    """Stop the run for a table expectation that failed."""
    config, observed = result.expectation_config, result.result.get("observed_value")
    what = f"{config.type}({_column(config)})" if _column(config) else config.type
    fix = {
        "expect_column_to_exist": "the column is missing: map it, or give the file that has it",
        "expect_table_row_count_to_be_between": f"the table has {observed} rows: it must have at least 1",
    }.get(config.type, f"observed {observed}")
    raise BrokenTableError(f"table {table}: {what} failed; {fix}")


def check_errors(table: str, results: list[Any]) -> None:
    """Stop the run for an expectation that could not be computed."""
    for result in results:
        info = result.exception_info or {}
        for error in [info, *(part for part in info.values() if isinstance(part, dict))]:
            if error.get("raised_exception"):
                raise BrokenTableError(
                    f"table {table}: {result.expectation_config.type} could not be computed: "
                    f"{error.get('exception_message')}"
                )


def _finding(result: Any) -> Finding:
    config, found = result.expectation_config, result.result
    examples = tuple(found.get("partial_unexpected_list") or ())
    return Finding(config.type, _column(config), config.meta["reason"], int(found["unexpected_count"]), examples)


class TableValidator:
    """Validates tables of one context; the data source is made once."""

    def __init__(self, context: AbstractDataContext, database: Path) -> None:
        self.context = context
        self._source = context.data_sources.add_sql("lake", connection_string=connection_string(str(database)))
        self._suites = build_suites()

    def run(self, table: str, suite: ExpectationSuite, keys: Sequence[str] = ()) -> list[Any]:
        """Run a suite over a table or view, so that Data Docs have a page of it; return Great Expectations' results.

        Args:
            table: A table or view of the context's database.
            suite: What must hold.
            keys: Columns that name a row on that page.
        """
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
            BrokenTableError: a table expectation fails, or one cannot be computed.
        """
        results = self.run(table, self._suites[table])
        broken = [r for r in results if not r.success and "reason" not in r.expectation_config.meta]
        if broken:
            _raise_broken(table, broken[0])
        check_errors(table, results)
        rows = next((int(r.result["element_count"]) for r in results if "element_count" in r.result), 0)
        found = [
            (r.expectation_config.type, _column(r.expectation_config), int(r.result.get("unexpected_count") or 0))
            for r in results
        ]
        return TableResult(table, rows, found, [_finding(r) for r in results if not r.success])


def require_few_bad(result: TableResult, bad: int, max_bad_share: float) -> None:
    """Stop the run when more than a set share of a table's rows is bad.

    Args:
        result: What was found.
        bad: Rows that fail at least one expectation; or a number that they are not less than.
        max_bad_share: `expectations.max_bad_share`.

    Raises:
        BrokenTableError: naming the expectation that fails most, how many rows, and three example values.
    """
    if bad <= max_bad_share * result.rows:
        return
    worst = max(result.findings, key=lambda found: found.count)
    raise BrokenTableError(
        f"table {result.table}: {bad:,} of {result.rows:,} rows are bad, more than expectations.max_bad_share "
        f"{max_bad_share:g}; most fail {worst.kind}({worst.column}): {worst.count:,} rows, such as "
        f"{list(worst.examples)}. Correct the mapping or the source; raise expectations.max_bad_share only if these "
        f"rows may be lost"
    )
