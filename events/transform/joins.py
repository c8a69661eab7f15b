"""Joined tables, blanks filled down, and times that a source gives only as days since the previous row."""

from datetime import UTC, datetime, time
from pathlib import Path

import polars as pl

from events.contract import UTC_TIME
from events.mapping import Elapsed, FillDown, Join
from events.sources.readers import read_table
from events.transform.columns import scalar_columns
from events.transform.numbers import id_text, number, text
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
    """Add the time of each row: the start, plus the days between the person's rows up to it."""
    start = datetime.combine(elapsed.start, time(), UTC)
    ordered = frame.with_columns(
        text(frame, elapsed.by).alias("_by"),
        number(frame, elapsed.order, pl.Float64()).alias("_order"),
        number(frame, elapsed.days, pl.Float64()).fill_null(0.0).alias("_days"),
        number(frame, elapsed.hour, pl.Float64()).fill_null(0.0).alias("_hour"),
    ).sort("_by", "_order", maintain_order=True)
    hours = pl.col("_days").cum_sum().over("_by") * 24 + pl.col("_hour")
    moment = pl.lit(start, dtype=UTC_TIME) + pl.duration(microseconds=(hours * 3_600_000_000).cast(pl.Int64))
    return ordered.with_columns(moment.cast(UTC_TIME).alias(elapsed.into)).drop("_by", "_order", "_days", "_hour")


def second_table(join: Join, files: list[Path], mapping: str) -> pl.DataFrame:
    """Return the second table of a join, read from its files, one row per `_key`; it is held in memory.

    Raises:
        MappingError: the table lacks the key, or a column that its times are made of.
        SourceError: the table has several rows for one key.
    """
    parts = [scalar_columns(read_table(file, join.csv)) for file in files]
    more = pl.concat(parts, how="diagonal_relaxed").unique(maintain_order=True)
    require_columns(more.columns, [join.key], join.table, mapping)
    if join.elapsed is not None:
        read = [join.elapsed.by, join.elapsed.order, join.elapsed.days, join.elapsed.hour]
        require_columns(more.columns, read, join.table, mapping)
        more = _with_time(more, join.elapsed)
    right = more.with_columns(id_text(more, join.key).alias("_key")).drop(join.key).filter(pl.col("_key").is_not_null())
    again = right.filter(pl.col("_key").is_duplicated())["_key"]
    if not again.is_empty():
        raise SourceError(
            f"mapping {mapping}: {join.table}.{join.key}: a joined table must have one row per key; "
            f"received several for {again[0]!r}. Keep one"
        )
    return right


def joined(frame: pl.DataFrame, second: pl.DataFrame, join: Join, table: str, mapping: str) -> pl.DataFrame:
    """Return a table, or a piece of it, with the columns of its `second_table`; the keys are compared as text.

    Raises:
        MappingError: the table lacks the key.
    """
    require_columns(frame.columns, [join.key], table, mapping)
    left = frame.with_columns(id_text(frame, join.key).alias("_key"))
    return left.join(second, on="_key", how="left", maintain_order="left", suffix=f"_{join.table}").drop("_key")


class Filler:
    """Fills the blanks of columns with the value of the key's row before, across the pieces of one file."""

    def __init__(self, spec: FillDown, table: str, mapping: str) -> None:
        self._spec, self._table, self._mapping = spec, table, mapping
        self._last: pl.DataFrame | None = None

    def fill(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the next piece of the file, filled.

        Raises:
            MappingError: the table lacks the key or a column that is to be filled.
        """
        columns = list(self._spec.columns)
        require_columns(frame.columns, [self._spec.by, *columns], self._table, self._mapping)
        keyed = frame.with_columns(id_text(frame, self._spec.by).alias("_key"))
        blanks = [pl.when(pl.col(c).cast(pl.String).str.strip_chars() != "").then(pl.col(c)).alias(c) for c in columns]
        values = keyed.select("_key", *blanks)
        if self._last is not None:
            values = pl.concat([self._last, values])
        filled = values.select("_key", pl.col(columns).forward_fill().over("_key"))
        self._last = filled.filter(pl.col("_key").is_not_null()).unique("_key", keep="last", maintain_order=True)
        filled = filled.tail(frame.height)
        kept = pl.lit(keyed["_key"].is_not_null())  # a row without a key is filled from no other row
        return frame.with_columns(pl.when(kept).then(pl.lit(filled[c])).otherwise(pl.col(c)).alias(c) for c in columns)
