"""Values of a source as text and numbers.

The one reader of them: mappings, `shoplens ingest --guess`, the collector and flat tables use `text`, `id_text`,
`number` and `nobody`. For a single ID, `is_nobody` does the same.
"""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from events.contract import CATEGORY_SEPARATOR
from events.mapping import Category, Csv, Source, SplitPath, columns_of

# What exports write where nobody is known, whatever the case; 0, -1 and UUIDs of zeros are matched beside the words.
_NOBODY = (
    "null|[(]null[)]|<null>|\\[null\\]|nil|\\\\n|undefined|none|[(]none[)]|nan|na|n/a|#n/a|[(]?not set[)]?|"
    "[(]not provided[)]|guest|anonymous|anon|[(]?unknown[)]?|nobody|missing|not logged in|-|--|[?]|[{][}]|\\[\\]"
)
_ZERO_UUID = "[{]?0{8}-0{4}-0{4}-0{4}-0{12}[}]?"
_WORDS = rf"(?i)^(?:{_NOBODY}|{_ZERO_UUID})$"
_WORDS_AND_NUMBERS = rf"(?i)^(?:{_NOBODY}|{_ZERO_UUID}|-1(?:\.0+)?|0+(?:\.0+)?)$"
_WHOLE = r"^(-?\d+)\.0+$"
_SIGNS = r"^[$€£¥₹\s]+|[$€£¥₹\s]+$"
_PLAIN_CSV = Csv()


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as text: whole floats as whole numbers (13085.0 as 13085), NaN and empty text as null."""
    kind, value = frame.schema[column], pl.col(column)
    if kind.is_float():
        whole = (value == value.floor()) & (value.abs() < 2**53)
        shown = pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
        return pl.when(value.is_not_nan()).then(shown)
    return value.cast(pl.String).str.strip_chars().replace("", None)


def id_text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as text, with IDs that pandas wrote as floats (13085.0) as whole numbers."""
    value = text(frame, column)
    if frame.schema[column] == pl.String and frame[column].str.ends_with(".0").any():
        return value.str.replace(_WHOLE, "$1")
    return value


def held(frame: pl.DataFrame, source: Source) -> tuple[pl.DataFrame, str]:
    """Return a frame and its column that holds a source: of alternatives, the first value that holds anything.

    Alternatives of different types are joined as text.
    """
    present = [name for name in columns_of(source) if name in frame.columns]
    if len(present) == 1:
        return frame, present[0]
    if len({frame.schema[name] for name in present}) == 1 and frame.schema[present[0]] != pl.String:
        return frame.select(pl.coalesce(present).alias("value")), "value"
    return frame.select(pl.coalesce(text(frame, name) for name in present).alias("value")), "value"


def given(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return where a column holds anything at all; NaN is something, and wrong where a number is required."""
    return text(frame, column).is_not_null() if frame.schema[column] == pl.String else pl.col(column).is_not_null()


def _unformatted(value: pl.Expr, decimal: str, thousands: str) -> pl.Expr:
    """Return numbers in a declared format in the format of Python; text in another format is null."""
    mark, group = re.escape(decimal), re.escape(thousands)
    value = value.str.replace_all(_SIGNS, "")
    if thousands == " ":
        value, group = value.str.replace_all("[\u00a0\u202f]", " "), " "
    grouped = rf"\d{{1,3}}(?:{group}\d{{3}})+|" if thousands else ""
    valid = value.str.contains(rf"^[+-]?(?:{grouped}\d*)(?:{mark}\d*)?(?:[eE][+-]?\d+)?$")
    value = value.str.replace_all(thousands, "", literal=True) if thousands else value
    return pl.when(valid).then(value.str.replace_all(decimal, ".", literal=True))


def number(frame: pl.DataFrame, column: str, kind: Any, csv: Csv = _PLAIN_CSV) -> pl.Expr:
    """Return a column of numbers or text as finite numbers of the Polars type `kind`; null where it is none.

    Where `csv` declares a decimal or thousands separator, a currency sign may stand beside a number in text.
    """
    source = frame.schema[column]
    # A 32-bit float is converted through its text, so that 0.1 stays 0.1.
    value = pl.col(column) if source.is_integer() or source == pl.Float64 else text(frame, column)
    if source == pl.String and (csv.decimal != "." or csv.thousands):
        value = _unformatted(value, csv.decimal, csv.thousands)
    value = value.cast(pl.Float64, strict=False)
    if kind.is_integer():
        # pandas writes whole numbers with a missing one among them as 1980.0
        return pl.when(value == value.floor()).then(value).cast(kind, strict=False)
    return pl.when(value.is_finite()).then(value)


def path(frame: pl.DataFrame, category: Category) -> pl.Expr:
    """Return a category path, or another text that a mapping makes of one or more columns."""
    parts = [text(frame, name) for name in columns_of(category)]
    if isinstance(category, SplitPath):
        return parts[0].str.replace_all(category.split, CATEGORY_SEPARATOR, literal=True)
    return pl.concat_str(parts, separator=CATEGORY_SEPARATOR, ignore_nulls=True).replace("", None)


def nobody(value: pl.Expr, words: Sequence[str] | None, *, numbers: bool = True) -> pl.Expr:
    """Return where an ID, as text, is one of the words that exports write for nobody.

    `words` replace the built-in words and numbers. Without `numbers`, 0 and -1 are IDs: sessions are numbered from 0.
    """
    value = value.str.strip_chars()
    if words is not None:
        return value.str.to_lowercase().is_in([word.strip().lower() for word in words])
    return value.str.contains(_WORDS_AND_NUMBERS if numbers else _WORDS)


def is_nobody(value: str) -> bool:
    """Return whether an ID is one of the built-in words or numbers for nobody."""
    return not value.strip() or re.match(_WORDS_AND_NUMBERS, value.strip()) is not None


def without_missing(frame: pl.DataFrame, missing: Sequence[str] | dict[str, tuple[str, ...]]) -> pl.DataFrame:
    """Return a table with the words that mean "no value" as null: in all columns of text, or per column.

    In a named column, a number is compared as one.
    """
    if not missing:
        return frame
    if not isinstance(missing, dict):
        texts = pl.selectors.string()
        return frame.with_columns(pl.when(~texts.str.strip_chars().is_in(list(missing))).then(texts))
    changed = []
    for column, words in missing.items():
        if column in frame.columns:
            numbers = [float(word) for word in words if re.fullmatch(r"-?\d+(\.\d+)?", word)]
            hit = text(frame, column).is_in(list(words))
            hit |= number(frame, column, pl.Float64()).is_in(numbers).fill_null(value=False)
            changed.append(pl.when(hit.not_() | pl.col(column).is_null()).then(pl.col(column)).alias(column))
    return frame.with_columns(changed)
