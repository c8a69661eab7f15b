"""Columns of other types (lists, records, durations, bytes, times out of range) as text, and attributes of events."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic_core import from_json

from events.content import json_text
from events.contract import ATTRIBUTES
from events.sources.files import first_line, kind_of
from events.transform.numbers import text
from shoplens.errors import SourceError

_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days from 1970-01-01
_A_DAY = {"ms": 86_400_000, "us": 86_400_000_000}


def _is_other(kind: pl.DataType) -> bool:
    return kind.is_nested() or kind in (pl.Duration, pl.Binary, pl.Object)


def require_scalars(frame: pl.DataFrame, needed: Iterable[str], where: str) -> None:
    """Raise a SourceError that names mapped columns that do not hold text, numbers or times."""
    wrong = [f"{name} ({frame.schema[name]})" for name in dict.fromkeys(needed) if _is_other(frame.schema[name])]
    if wrong:
        raise SourceError(
            f"{where}: a mapped column must hold text, numbers or times; received {', '.join(wrong)}. "
            f"Write such columns, or leave these out of the mapping"
        )


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, pl.Struct) or (isinstance(kind, pl.List | pl.Array) and _has_fields(kind.inner))


def _as_text(column: pl.Series, *, hexed: bool) -> pl.Series | None:
    """Return a column as text, or None where its type has none."""
    if not hexed and not _has_fields(column.dtype):  # a record cast to text loses the names of its fields
        try:
            return column.cast(pl.String)
        except pl.exceptions.PolarsError:
            pass  # then by its kind
    if column.dtype == pl.Duration:
        return column.dt.to_string("iso")
    if column.dtype == pl.Binary:
        return column.bin.encode("hex")
    try:
        wrapped = column.alias("x").to_frame().select(pl.struct("x").struct.json_encode()).to_series()
    # PanicException derives from BaseException alone: bytes inside a list are not written to JSON yet
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    inside = wrapped.str.slice(len('{"x":')).str.head(-1)  # without the closing brace
    texts = inside.to_frame("x").select(pl.when(pl.col("x") != "null").then("x")).to_series()
    distinct = texts.drop_nulls().unique()  # a record without a field has null there if its neighbours have it
    return texts.replace_strict(distinct, [json_text(from_json(text)) for text in distinct], return_dtype=pl.String)


def _limits(kind: pl.DataType) -> tuple[int, int] | None:
    """Return the first and the last time of a column that Polars can write without a panic; None for other columns."""
    if isinstance(kind, pl.Datetime) and kind.time_unit != "ns":  # 64 bits of nanoseconds end in 2262
        return _FIRST_DAY * _A_DAY[kind.time_unit or "us"], _LAST_DAY * _A_DAY[kind.time_unit or "us"]
    return (_FIRST_DAY, _LAST_DAY) if kind == pl.Date else None


def _is_text(table: pl.LazyFrame, name: str) -> bool:
    """Return whether all bytes in a column are text."""
    try:
        table.select(pl.col(name).cast(pl.String).null_count()).collect(engine="streaming")
    except pl.exceptions.ComputeError:
        return False
    return True


@dataclass(frozen=True)
class ColumnForms:
    """How columns are written as text: decided by the whole file, so that all pieces of it are written alike.

    Attributes:
        far: Columns of times with at least one so far off that all are written as text.
        hexed: Columns of bytes with at least one that is not text, so that all are written in hexadecimal.
    """

    far: frozenset[str] = frozenset()
    hexed: frozenset[str] = frozenset()


def column_forms(frame: pl.DataFrame | pl.LazyFrame) -> ColumnForms:
    """Return how the columns of a whole table are written."""
    table = frame.lazy()
    schema = table.collect_schema()
    far: list[str] = []
    times = {name: limits for name, kind in schema.items() if (limits := _limits(kind)) is not None}
    if times:
        near = [pl.col(name).to_physical().is_between(*limits).all() for name, limits in times.items()]
        far = [n for n, ok in zip(times, table.select(near).collect(engine="streaming").row(0), strict=True) if not ok]
    hexed = [name for name, kind in schema.items() if kind == pl.Binary and not _is_text(table, name)]
    return ColumnForms(frozenset(far), frozenset(hexed))


def column_forms_of(path: Path) -> ColumnForms:
    """Return how the columns of a file are written; only Parquet has columns of bytes and of times.

    Raises:
        SourceError: the file cannot be read.
    """
    if kind_of(path) != ".parquet":
        return ColumnForms()
    try:
        return column_forms(pl.scan_parquet(path, glob=False, hive_partitioning=False))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path}: cannot be read as parquet: {first_line(error)}") from error


def _far_as_text(column: pl.Series) -> pl.Series:
    value, physical, limits = pl.col("x"), pl.col("x").to_physical(), _limits(column.dtype) or (0, 0)
    near: pl.Expr = pl.when(physical.is_between(*limits)).then(value)
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        near = near.dt.convert_time_zone("UTC")
    written = near.dt.to_string("iso")
    return column.to_frame("x").select(written.fill_null(physical.cast(pl.String))).to_series()


def scalar_columns(frame: pl.DataFrame, forms: ColumnForms | None = None) -> pl.DataFrame:
    """Return a table, or a piece of one with `forms`, with columns of other types as text, or without them."""
    forms = column_forms(frame) if forms is None else forms
    for name, kind in frame.schema.items():
        if _is_other(kind):
            written = _as_text(frame[name], hexed=name in forms.hexed)
            frame = frame.drop(name) if written is None else frame.with_columns(written.alias(name))
        elif name in forms.far and kind != pl.String:
            frame = frame.with_columns(_far_as_text(frame[name]).alias(name))
    return frame


def attributes(frame: pl.DataFrame, names: list[str]) -> pl.Series:
    """Return ATTRIBUTES of every row: the columns `names` as text, by name, without those that hold nothing.

    By name, as the collector has them: an event that comes both in a file and live is one content.
    """
    if not names or frame.is_empty():
        return pl.select(pl.repeat(pl.lit([], dtype=ATTRIBUTES), frame.height).alias("attributes")).to_series()
    names = sorted(names)
    texts = frame.select(text(frame, name).alias(str(n)) for n, name in enumerate(names))
    held = np.column_stack([column.is_not_null().to_numpy() for column in texts])  # (rows, names)
    # Lists out of their offsets and values: Polars' own concat_list of records takes ten times as long.
    values = texts.select(pl.concat_list(pl.all()).alias("value")).explode("value", empty_as_null=False).to_series()
    keys = pl.Series("key", names)[np.tile(np.arange(len(names)), frame.height)[held.ravel()]]
    pairs = pl.DataFrame({"key": keys, "value": values.filter(pl.Series(held.ravel()))}).to_struct("pair")
    offsets = np.concatenate([[0], held.sum(axis=1).cumsum()])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pairs.to_arrow())
    return pl.Series("attributes", lists, dtype=ATTRIBUTES)
