"""Split a table into accepted and quarantined rows, in batches: memory use does not grow with the table."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from events.contract import QUARANTINE_SCHEMA
from events.parquet import GroupedWriter
from expectations.suites import RULES, reasons_of, row_rules
from expectations.validator import TableResult, bounded_connection
from shoplens.errors import BrokenTableError

BATCH = 1 << 17
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowSplit:
    """How the rows of a table were split."""

    rows: int  # number of rows read
    # row numbers of the quarantined rows in the source file, from 0, sorted: int64, (bad rows,)
    bad: Positions

    @property
    def good(self) -> int:
        """The number of accepted rows."""
        return self.rows - len(self.bad)

    def original_positions(self, accepted: Positions) -> Positions:
        """Convert row numbers among the accepted rows to row numbers in the source file."""
        accepted_before = self.bad - np.arange(len(self.bad))  # accepted rows before each quarantined row
        return accepted + np.searchsorted(accepted_before, accepted, side="right")


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file in order, at most `BATCH` rows at a time.

    Each row group is read separately, because iterating over a whole file keeps what was read in memory (pyarrow 26:
    4 GB after 100 million rows).
    """
    with pq.ParquetFile(path) as source:
        for group in range(source.num_row_groups):
            for batch in source.iter_batches(BATCH, row_groups=[group], columns=columns):
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                if not isinstance(frame, pl.DataFrame):
                    raise TypeError(f"expected an Arrow table to convert to a DataFrame, got {type(frame).__name__}")
                yield frame


def _repeated_values(sources: Sequence[Path], column: str) -> pl.Series:
    """Return the values that occur more than once in a column, sorted."""
    with bounded_connection() as connection:
        name = duckdb.ColumnExpression(column)
        table = connection.read_parquet([str(path) for path in sources]).filter(name.isnotnull())
        counted = table.aggregate([name, duckdb.FunctionExpression("count").alias("n")])
        twice: pl.DataFrame = counted.filter(duckdb.ColumnExpression("n") > 1).project(name).pl()
    return twice.to_series().sort()


def reasons_expression(result: TableResult, sources: Sequence[Path]) -> pl.Expr:
    """Return an expression for the reasons of each row, List(String), limited to the rules that some row fails.

    `sources` are all files of the table: uniqueness is checked across them.
    """
    rules = row_rules(result.table)
    for rule in RULES[result.table]:
        if rule.fails is None and rule.reason in result.failed:  # a column whose values must be unique
            column = rule.arguments["column"]
            repeated = _repeated_values(sources, column).implode()
            rules[rule.reason] = pl.col(column).is_in(repeated).fill_null(value=False)
    return reasons_of({reason: rules[reason] for reason in sorted(result.failed)}).alias("reasons")


def rewrite(
    table: str,
    source: Path,
    target: Path,
    judge: Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.Series]],
    original: Callable[[Positions], Positions],
    quarantine: GroupedWriter,
) -> tuple[dict[str, int], Positions, int]:
    """Copy the rows of a table in order, except bad ones, which go to `quarantine` as they are in `source`.

    `judge` returns a batch as it is to be written, and the reasons against each row, List(String). `original` converts
    row numbers in `source` to those that the quarantine states.

    Returns the rows per reason, the original numbers of the bad rows, and the number of good rows.
    """
    counts, bad, start = Counter[str](), [np.zeros(0, dtype=np.int64)], 0
    schema = judge(pl.DataFrame(schema=pl.read_parquet_schema(source)))[0].schema
    with GroupedWriter(target, schema) as writer:
        for raw in read_batches(source):
            rows, reasons = judge(raw)
            is_bad = reasons.list.len() > 0
            numbers = original((is_bad.arg_true().cast(pl.Int64) + start).to_numpy())
            writer.add(rows.filter(~is_bad))
            json = raw.filter(is_bad).select(pl.struct(pl.all()).struct.json_encode()).to_series()
            content = {"table": [table] * len(numbers), "row": numbers, "reasons": reasons.filter(is_bad), "raw": json}
            quarantine.add(pl.DataFrame(content, schema=QUARANTINE_SCHEMA))
            counts.update(dict(reasons.filter(is_bad).explode().value_counts().iter_rows()))
            bad.append(numbers)
            start += raw.height
    return dict(counts), np.concatenate(bad), writer.rows


def split_rows(source: Path, target: Path, result: TableResult, quarantine: GroupedWriter) -> RowSplit:
    """Write the accepted rows of the table `source` to `target`, in order, and the others to `quarantine`.

    Raises:
        BrokenTableError: the number of identified rows differs from what Great Expectations counted.
    """
    if not result.findings:
        shutil.copyfile(source, target)
        return RowSplit(result.rows, np.zeros(0, dtype=np.int64))
    expression = reasons_expression(result, [source])

    def judge(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        return frame, frame.select(expression).to_series()

    counts, bad, _ = rewrite(result.table, source, target, judge, lambda numbers: numbers, quarantine)
    if counts != result.failed:
        raise BrokenTableError(
            f"table {result.table}: Great Expectations counted {result.failed}, but {counts} rows were identified. "
            f"This is a bug: please report it with the version of great-expectations"
        )
    return RowSplit(result.rows, bad)
