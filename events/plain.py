"""Columns that are no plain values (lists, durations, bytes, times out of range) as text, so that no row is lost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic_core import from_json

from events.content import json_text
from events.kinds import first_line, kind_of
from shoplens.errors import SourceError

_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days from 1970-01-01
_A_DAY = {"ms": 86_400_000, "us": 86_400_000_000}


def _odd(kind: pl.DataType) -> bool:
    return kind.is_nested() or kind in (pl.Duration, pl.Binary, pl.Object)


def require_plain(frame: pl.DataFrame, needed: list[str], where: str) -> None:
    """Raise a SourceError that names the columns that the mapping reads and that hold no plain values."""
    odd = [f"{name} ({frame.schema[name]})" for name in dict.fromkeys(needed) if _odd(frame.schema[name])]
    if odd:
        raise SourceError(
            f"{where}: a mapped column must hold text, numbers or times; received {', '.join(odd)}. "
            f"Write plain columns, or leave these out of the mapping"
        )


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, pl.Struct) or (isinstance(kind, pl.List | pl.Array) and _has_fields(kind.inner))


def _as_text(column: pl.Series, *, hexed: bool) -> pl.Series | None:
    """Return an odd column as text, or None where there is none for it."""
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


def _far(name: str, kind: Any) -> pl.Expr | None:
    """Say whether a column has times so far off that Polars panics when it writes them; None where it can have none."""
    if not (kind == pl.Date or isinstance(kind, pl.Datetime)):
        return None
    if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
        return None  # 64 bits of nanoseconds end in 2262
    unit = _A_DAY[kind.time_unit or "us"] if isinstance(kind, pl.Datetime) else 1
    value = pl.col(name).to_physical()
    return ((value < _FIRST_DAY * unit) | (value > _LAST_DAY * unit)).any()


def _is_text(table: pl.LazyFrame, name: str) -> bool:
    """Say whether the bytes in a column are text, all of them."""
    try:
        table.select(pl.col(name).cast(pl.String).null_count()).collect(engine="streaming")
    except pl.exceptions.ComputeError:
        return False
    return True


@dataclass(frozen=True)
class Odd:
    """What one value of a column decides for all of them, so that the pieces of a file are written alike.

    Attributes:
        far: Columns of times, one of which is so far off that all are written as text.
        hexed: Columns of bytes, one of which is no text, so that all are written in hexadecimal.
    """

    far: frozenset[str] = frozenset()
    hexed: frozenset[str] = frozenset()


def odd_columns(frame: pl.DataFrame | pl.LazyFrame) -> Odd:
    """Find what the values of a table decide."""
    table = frame.lazy()
    schema = table.collect_schema()
    tests = {name: test for name, kind in schema.items() if (test := _far(name, kind)) is not None}
    far: tuple[bool, ...] = ()
    if tests:
        far = table.select(test.alias(name) for name, test in tests.items()).collect(engine="streaming").row(0)
    return Odd(
        frozenset(name for name, odd in zip(tests, far, strict=True) if odd),
        frozenset(name for name, kind in schema.items() if kind == pl.Binary and not _is_text(table, name)),
    )


def odd_columns_of(path: Path) -> Odd:
    """Find what the values of a file decide; only Parquet has columns other than of plain values and records.

    Raises:
        SourceError: the file cannot be read.
    """
    if kind_of(path) != ".parquet":
        return Odd()
    try:
        return odd_columns(pl.scan_parquet(path, glob=False, hive_partitioning=False))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path}: cannot be read as parquet: {first_line(error)}") from error


def _far_as_text(column: pl.Series) -> pl.Series:
    kind = column.dtype
    unit = _A_DAY[kind.time_unit or "us"] if isinstance(kind, pl.Datetime) else 1
    value, physical = pl.col("x"), pl.col("x").to_physical()
    near: pl.Expr = pl.when(physical.is_between(_FIRST_DAY * unit, _LAST_DAY * unit)).then(value)
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        near = near.dt.convert_time_zone("UTC")
    written = near.dt.to_string("iso")
    return column.to_frame("x").select(written.fill_null(physical.cast(pl.String))).to_series()


def plain(frame: pl.DataFrame, odd: Odd | None = None) -> pl.DataFrame:
    """Return the table with columns of other than plain values as text; those that have no text are left out.

    Args:
        frame: The table, or a piece of it.
        odd: What the values of the whole table decide; by default the frame is the whole.
    """
    odd = odd_columns(frame) if odd is None else odd
    for name, kind in frame.schema.items():
        if _odd(kind):
            written = _as_text(frame[name], hexed=name in odd.hexed)
            frame = frame.drop(name) if written is None else frame.with_columns(written.alias(name))
        elif name in odd.far and kind != pl.String:
            frame = frame.with_columns(_far_as_text(frame[name]).alias(name))
    return frame
