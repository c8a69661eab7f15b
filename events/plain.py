"""Columns that are no plain values (lists, durations, bytes, times out of range) as text, so that no row is lost."""

from typing import Any

import polars as pl

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


def _as_text(column: pl.Series) -> pl.Series | None:
    """Return an odd column as text, or None where there is none for it."""
    if not _has_fields(column.dtype):  # a record cast to text loses the names of its fields
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
    return inside.to_frame("x").select(pl.when(pl.col("x") != "null").then("x")).to_series()


def _far(column: pl.Series) -> bool:
    """Say whether a column has times so far off that Polars panics when it writes them."""
    kind = column.dtype
    if not (kind == pl.Date or isinstance(kind, pl.Datetime)):
        return False
    if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
        return False  # 64 bits of nanoseconds end in 2262
    unit = _A_DAY[kind.time_unit or "us"] if isinstance(kind, pl.Datetime) else 1
    return not column.to_physical().drop_nulls().is_between(_FIRST_DAY * unit, _LAST_DAY * unit).all()


def _far_as_text(column: pl.Series) -> pl.Series:
    kind = column.dtype
    unit = _A_DAY[kind.time_unit or "us"] if isinstance(kind, pl.Datetime) else 1
    value, physical = pl.col("x"), pl.col("x").to_physical()
    near: pl.Expr = pl.when(physical.is_between(_FIRST_DAY * unit, _LAST_DAY * unit)).then(value)
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        near = near.dt.convert_time_zone("UTC")
    written = near.dt.to_string("iso")
    return column.to_frame("x").select(written.fill_null(physical.cast(pl.String))).to_series()


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with columns of other than plain values as text; those that have no text are left out."""
    for name, kind in frame.schema.items():
        if _odd(kind):
            written = _as_text(frame[name])
            frame = frame.drop(name) if written is None else frame.with_columns(written.alias(name))
        elif _far(frame[name]):
            frame = frame.with_columns(_far_as_text(frame[name]).alias(name))
    return frame
