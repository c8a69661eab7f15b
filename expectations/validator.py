"""Running the suites over Parquet tables on DuckDB, and the rows that fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import great_expectations as gx
from great_expectations.data_context import AbstractDataContext

from expectations.duckdb_dialect import connection_string
from expectations.suites import build_suites
from shoplens.errors import BrokenTableError

ROW_KEY = "_row"  # place of a row in its file, from 0: a key also where ids are missing or repeated
_EXAMPLES = 3
_SUMMARY = {"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES}


@dataclass(frozen=True)
class TableResult:
    """What the suite of one table found.

    Attributes:
        table: Which.
        rows: Rows checked.
        failed: Reason -> rows (places in the file, sorted) that fail it.
        expectations: (expectation, column, rows that fail) in the order of the suite.
    """

    table: str
    rows: int
    failed: dict[str, list[int]]
    expectations: list[tuple[str, str, int]]

    def bad_rows(self) -> dict[int, list[str]]:
        """Return row -> its reasons, both sorted."""
        found: dict[int, list[str]] = {}
        for reason, rows in sorted(self.failed.items()):
            for row in rows:
                found.setdefault(row, []).append(reason)
        return dict(sorted(found.items()))


@contextmanager
def open_tables(database: Path, tables: dict[str, Path]) -> Iterator[AbstractDataContext]:
    """Yield an in-memory Great Expectations context over views of Parquet files in a DuckDB file."""
    with duckdb.connect(str(database)) as connection:
        for name, path in tables.items():
            view = connection.read_parquet(str(path), file_row_number=True)
            columns = ", ".join(f'"{column}"' for column in view.columns if column != "file_row_number")
            view.project(f"{columns}, file_row_number AS {ROW_KEY}").create_view(name)
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


def _check_errors(table: str, results: list[Any]) -> None:
    for result in results:
        info = result.exception_info or {}
        for error in [info, *(part for part in info.values() if isinstance(part, dict))]:
            if error.get("raised_exception"):
                raise BrokenTableError(
                    f"table {table}: {result.expectation_config.type} could not be computed: "
                    f"{error.get('exception_message')}"
                )


def _failing_rows(batch: Any, config: Any, count: int) -> set[int]:
    """Return the places of all rows that fail an expectation that `count` rows fail."""
    # Great Expectations' SQL engine stops at partial_unexpected_count rows, 20 by default, in COMPLETE results too.
    every = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [ROW_KEY],
        "partial_unexpected_count": count,
    }
    again = batch.validate(config.to_domain_obj(), result_format=every)
    places = {int(index[ROW_KEY]) for index in again.result["unexpected_index_list"]}
    if len(places) != count:
        raise BrokenTableError(
            f"{config.type}({_column(config)}): {count:,} rows fail but {len(places):,} were found: this is a bug, "
            f"report it with the version of great-expectations"
        )
    return places


class TableValidator:
    """Validates tables of one context; the data source is made once."""

    def __init__(self, context: AbstractDataContext, database: Path) -> None:
        self.context = context
        self._source = context.data_sources.add_sql("lake", connection_string=connection_string(str(database)))
        self._suites = build_suites()

    def validate(self, table: str) -> TableResult:
        """Run the suite of `table`.

        Raises:
            BrokenTableError: a table expectation fails, or one cannot be computed.
        """
        asset = self._source.add_table_asset(table, table_name=table)
        batch = asset.add_batch_definition_whole_table("whole")
        suite = self.context.suites.add(self._suites[table])
        definition = self.context.validation_definitions.add(
            gx.ValidationDefinition(name=table, data=batch, suite=suite)
        )
        checkpoint = self.context.checkpoints.add(
            gx.Checkpoint(name=table, validation_definitions=[definition], result_format=_SUMMARY)
        )
        (outcome,) = checkpoint.run().run_results.values()
        results = list(outcome.results)
        broken = [r for r in results if not r.success and "reason" not in r.expectation_config.meta]
        if broken:
            _raise_broken(table, broken[0])
        _check_errors(table, results)
        batch_data = batch.get_batch()
        rows = next((int(r.result["element_count"]) for r in results if "element_count" in r.result), 0)
        failed: dict[str, list[int]] = {}
        found = []
        for result in results:
            config = result.expectation_config
            count = int(result.result.get("unexpected_count") or 0)
            found.append((config.type, _column(config), count))
            if not result.success:
                places = _failing_rows(batch_data, config, count)
                reason = config.meta["reason"]
                failed[reason] = sorted({*failed.get(reason, []), *places})
        return TableResult(table, rows, failed, found)


def require_few_bad(result: TableResult, raw: Any, max_bad_share: float) -> None:
    """Stop the run when more than a set share of a table's rows is bad.

    Args:
        result: What was found.
        raw: Polars frame of the table, for the examples.
        max_bad_share: `expectations.max_bad_share`.

    Raises:
        BrokenTableError: naming the expectation that fails most, how many rows, and three example values.
    """
    bad = len(result.bad_rows())
    if bad <= max_bad_share * result.rows:
        return
    kind, column, count = max(result.expectations, key=lambda found: found[2])
    rows = next(rows for rows in result.failed.values() if len(rows) == max(map(len, result.failed.values())))
    examples = raw[rows[:_EXAMPLES]][column].to_list() if column in raw.columns else rows[:_EXAMPLES]
    raise BrokenTableError(
        f"table {result.table}: {bad:,} of {result.rows:,} rows are bad, more than expectations.max_bad_share "
        f"{max_bad_share:g}; most fail {kind}({column}): {count:,} rows, such as {examples}. Correct the mapping or "
        "the source; raise expectations.max_bad_share only if these rows may be lost"
    )
