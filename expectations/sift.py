"""Good rows of a table to their place, bad ones to quarantine, in passing: memory does not grow with the table."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from events.contract import QUARANTINE_SCHEMA
from events.lake.table import GroupedWriter
from expectations.duckdb_dialect import bounded_connection
from expectations.rows import compile_rules, reasons_of, unique_columns
from expectations.suites import build_suites
from expectations.validator import TableResult
from shoplens.errors import BrokenTableError

BATCH = 1 << 17


@dataclass(frozen=True)
class Sifted:
    """What became of a table.

    Attributes:
        rows: Rows in.
        bad: Places in the file of those set aside, sorted: (bad rows,), int64.
    """

    rows: int
    bad: npt.NDArray[np.int64]

    @property
    def good(self) -> int:
        """Return how many rows went through."""
        return self.rows - len(self.bad)

    def place_before(self, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the places in the table as it came of rows given by their places among those that went through."""
        good_before = self.bad - np.arange(len(self.bad))  # before each row that was set aside
        return kept + np.searchsorted(good_before, kept, side="right")


def batches(path: Path, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file in order, at most `BATCH` at a time.

    A row group at a time: a reader of the whole file keeps what it has read (pyarrow 26: 4 GB after 100 million rows).
    """
    with pq.ParquetFile(path) as source:
        for group in range(source.num_row_groups):
            for batch in source.iter_batches(BATCH, row_groups=[group], columns=columns):
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                if not isinstance(frame, pl.DataFrame):
                    raise TypeError(f"a table must become a frame; received {type(frame).__name__}")
                yield frame


def set_aside(table: str, rows: pl.DataFrame, places: pl.Series, reasons: pl.Series) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA of some rows of a table, with their places in its file and their reasons."""
    raw = rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    content = {"table": [table] * rows.height, "row": places, "reasons": reasons, "raw": raw}
    return pl.DataFrame(content, schema=QUARANTINE_SCHEMA)


def _repeated(sources: Sequence[Path], column: str) -> pl.Series:
    """Return the values of a column that are there more than once, sorted."""
    with tempfile.TemporaryDirectory() as spill, bounded_connection(":memory:", Path(spill)) as connection:
        name = duckdb.ColumnExpression(column)
        table = connection.read_parquet([str(path) for path in sources]).filter(name.isnotnull())
        counted = table.aggregate([name, duckdb.FunctionExpression("count").alias("n")])
        twice: pl.DataFrame = counted.filter(duckdb.ColumnExpression("n") > 1).project(name).pl()
    return twice.to_series().sort()


def judging(result: TableResult, sources: Sequence[Path]) -> pl.Expr:
    """Return the reasons of a row, List(String), out of those for which some row of a table fails.

    Args:
        result: What the table's suite found.
        sources: The table's files: whether a value is there once is a matter of all of them.
    """
    expectations = build_suites()[result.table].expectations
    rules = compile_rules(expectations)
    for reason, column in unique_columns(expectations).items():
        if reason in result.failed:
            rules[reason] = pl.col(column).is_in(_repeated(sources, column).implode()).fill_null(value=False)
    return reasons_of({reason: rules[reason] for reason in sorted(result.failed)}).alias("reasons")


def _require_agreement(result: TableResult, counts: dict[str, int]) -> None:
    """Hold the rows that were found against the number that Great Expectations counted."""
    if counts != result.failed:
        raise BrokenTableError(
            f"table {result.table}: Great Expectations counts {result.failed}, the rows found are {counts}: this is a "
            f"bug, report it with the version of great-expectations"
        )


def _tally(counts: dict[str, int], reasons: pl.Series) -> None:
    for reason, count in reasons.explode().value_counts().iter_rows():
        counts[reason] += count


def sift(source: Path, target: Path, result: TableResult, quarantine: GroupedWriter) -> Sifted:
    """Write the good rows of a table to `target` in their order, and the bad ones to quarantine.

    Args:
        source: The table.
        target: A new file.
        result: What its suite found.
        quarantine: Takes QUARANTINE_SCHEMA.

    Raises:
        BrokenTableError: the rows found are not as many as Great Expectations counted.
    """
    if not result.findings:
        shutil.copyfile(source, target)
        return Sifted(result.rows, np.zeros(0, dtype=np.int64))
    judged = judging(result, [source])
    counts = dict.fromkeys(result.failed, 0)
    writer, bad, start = GroupedWriter(target, _schema(source)), [], 0
    for frame in batches(source):
        reasons = frame.select(judged).to_series()
        is_bad = reasons.list.len() > 0
        places = (is_bad.arg_true() + start).cast(pl.Int64)
        writer.add(frame.filter(~is_bad))
        quarantine.add(set_aside(result.table, frame.filter(is_bad), places, reasons.filter(is_bad)))
        _tally(counts, reasons.filter(is_bad))
        bad.append(places.to_numpy())
        start += frame.height
    writer.close()
    _require_agreement(result, counts)
    return Sifted(result.rows, np.concatenate(bad))


def _schema(path: Path) -> dict[str, Any]:
    return dict(pl.read_parquet_schema(path))
