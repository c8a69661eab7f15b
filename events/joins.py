"""A second table beside the one that is read, and times that a source tells only as days since the time before."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from events.contract import UTC_TIME
from events.mapping import Elapsed, Join
from events.plain import plain
from events.sources.readers import read_table
from events.values import number, text
from shoplens.errors import MappingError, SourceError


def require_columns(columns: list[str], needed: list[str], table: str, mapping: str) -> None:
    """Raise a MappingError that names the columns that the mapping reads and the table lacks."""
    missing = [name for name in dict.fromkeys(needed) if name not in columns]
    if missing:
        raise MappingError(
            f"mapping {mapping}: table {table} must have column(s) {', '.join(missing)}; it has "
            f"{', '.join(columns)}. Correct the mapping or give the right file"
        )


def _with_time(frame: pl.DataFrame, elapsed: Elapsed) -> pl.DataFrame:
    """Add the time of every row: the start, plus the days since the row before of the same person, summed."""
    start = datetime(elapsed.start.year, elapsed.start.month, elapsed.start.day, tzinfo=UTC)
    ordered = frame.with_columns(
        text(frame, elapsed.by).alias("_by"),
        number(frame, elapsed.order, pl.Float64()).alias("_order"),
        number(frame, elapsed.days, pl.Float64()).fill_null(0.0).alias("_days"),
        number(frame, elapsed.hour, pl.Float64()).fill_null(0.0).alias("_hour"),
    ).sort("_by", "_order", maintain_order=True)
    hours = pl.col("_days").cum_sum().over("_by") * 24 + pl.col("_hour")
    time = pl.lit(start, dtype=UTC_TIME) + pl.duration(microseconds=(hours * 3_600_000_000).cast(pl.Int64))
    return ordered.with_columns(time.cast(UTC_TIME).alias(elapsed.into)).drop("_by", "_order", "_days", "_hour")


def second_table(join: Join, files: list[Path], mapping: str) -> pl.DataFrame:
    """Return the second table of a join, one row a `_key`; it is held in memory.

    Args:
        join: The mapping's entry.
        files: Those of the second table.
        mapping: The mapping's name, for messages.

    Raises:
        MappingError: the table lacks the key, or a column that tells the time.
        SourceError: the table has several rows for one key.
    """
    parts = [plain(read_table(file, join.csv)) for file in files]
    more = pl.concat(parts, how="diagonal_relaxed").unique(maintain_order=True)
    require_columns(more.columns, [join.key], join.table, mapping)
    if join.elapsed is not None:
        read = [join.elapsed.by, join.elapsed.order, join.elapsed.days, join.elapsed.hour]
        require_columns(more.columns, read, join.table, mapping)
        more = _with_time(more, join.elapsed)
    right = more.with_columns(text(more, join.key).alias("_key")).drop(join.key).filter(pl.col("_key").is_not_null())
    again = right.filter(pl.col("_key").is_duplicated())["_key"]
    if not again.is_empty():
        raise SourceError(
            f"mapping {mapping}: {join.table}.{join.key}: a joined table must have one row a key; "
            f"received several for {again[0]!r}. Leave one"
        )
    return right


def joined(frame: pl.DataFrame, second: pl.DataFrame, join: Join, table: str, mapping: str) -> pl.DataFrame:
    """Return a table, or a piece of it, with the columns of its second table; the keys are compared as text.

    Args:
        frame: The table, of plain columns.
        second: See `second_table`.
        join: The mapping's entry.
        table: The table's name, and `mapping` the mapping's, for messages.
        mapping: See above.

    Raises:
        MappingError: the table lacks the key.
    """
    require_columns(frame.columns, [join.key], table, mapping)
    left = frame.with_columns(text(frame, join.key).alias("_key"))
    return left.join(second, on="_key", how="left", maintain_order="left").drop("_key")
