"""Columns of a source as text and numbers."""

from typing import Any

import polars as pl

from events.contract import CATEGORY_SEPARATOR
from events.mapping import Category, SplitPath


def columns_of(category: Category) -> list[str]:
    """Return the columns of the source that a category is made of."""
    if isinstance(category, SplitPath):
        return [category.column]
    return [category] if isinstance(category, str) else list(category)


def spelled(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as derived ids spell it: whole floats (13085.0) as whole numbers, empty text as missing.

    Never change it: the ids of every lake hang on it.
    """
    kind = frame.schema[column]
    value = pl.col(column)
    if kind.is_float():
        whole = value.is_not_null() & (value == value.floor()) & (value.abs() < 2**53)
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    result = value.cast(pl.String).str.strip_chars()
    return pl.when(result != "").then(result)


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as text, as `spelled`, with not-a-number as missing: pandas writes a missing id so."""
    if frame.schema[column].is_float():
        return pl.when(pl.col(column).is_not_nan()).then(spelled(frame, column))
    return spelled(frame, column)


def given(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Say where a column holds anything at all; not-a-number is something, and wrong where a number is due."""
    if frame.schema[column] == pl.String:
        return text(frame, column).is_not_null()
    return pl.col(column).is_not_null()


def number(frame: pl.DataFrame, column: str, kind: Any) -> pl.Expr:
    """Return a column as finite numbers of the type `kind`; null where it cannot be read as one."""
    source = frame.schema[column]
    # A 32-bit float goes through its text, so that 0.1 stays 0.1.
    direct = source.is_integer() or source == pl.Float64
    value = (pl.col(column) if direct else text(frame, column)).cast(pl.Float64, strict=False)
    if kind.is_integer():
        # pandas writes whole numbers with a missing one among them as 1980.0
        return pl.when(value == value.floor()).then(value).cast(kind, strict=False)
    return pl.when(value.is_finite()).then(value)


def path(frame: pl.DataFrame, category: Category) -> pl.Expr:
    """Return a category path, or any other text that a mapping makes of one or more columns."""
    parts = [text(frame, name) for name in columns_of(category)]
    if isinstance(category, SplitPath):
        return parts[0].str.replace_all(category.split, CATEGORY_SEPARATOR, literal=True)
    joined = pl.concat_str(parts, separator=CATEGORY_SEPARATOR, ignore_nulls=True)
    return pl.when(joined != "").then(joined)
