"""Parse source columns as text, numbers and attributes.

This is the only parser of values: mappings, `shoplens ingest --guess`, the collector and flat tables use `text`,
`id_text`, `number`, `nobody` and `json_text`. `is_nobody` is `nobody` for a single ID.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic_core import from_json, to_json

from events.contract import ATTRIBUTES, CATEGORY_SEPARATOR
from events.mapping import Category, Csv, Missing, Source, SplitPath, columns_of
from shoplens.errors import SourceError

_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days from 1970-01-01
_A_DAY = {"ms": 86_400_000, "us": 86_400_000_000}
# What exports write for unknown people, case-insensitive; 0, -1 and all-zero UUIDs are matched in addition.
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


def _is_other(kind: pl.DataType) -> bool:
    return kind.is_nested() or kind in (pl.Duration, pl.Binary, pl.Object)


def require_scalars(frame: pl.DataFrame, needed: Iterable[str], where: str) -> None:
    """Raise a SourceError if mapped columns do not hold text, numbers or times."""
    wrong = [f"{name} ({frame.schema[name]})" for name in dict.fromkeys(needed) if _is_other(frame.schema[name])]
    if wrong:
        raise SourceError(
            f"{where}: a mapped column must hold text, numbers or times; received {', '.join(wrong)}. "
            f"Write such columns, or leave these out of the mapping"
        )


def json_text(value: Any) -> str:
    """Return a JSON value as canonical attribute text: sorted keys, no nulls, and 2 for 2.0."""
    return to_json(_canonical(value)).decode()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in sorted(value.items()) if inner is not None}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _bytes_text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value.hex() if value else None


def _scalars(column: pl.Series) -> pl.Series | None:
    """Convert a column to a type that is not `_is_other`; None if its values cannot be converted."""
    kind = column.dtype
    if kind == pl.Duration:
        return column.dt.to_string("iso")
    if kind == pl.Binary:
        return pl.Series(column.name, [_bytes_text(value) for value in column], dtype=pl.String)
    if _is_other(kind):
        try:
            texts = column.alias("x").to_frame().select(pl.struct("x").struct.json_encode()).to_series()
        # PanicException derives from BaseException; Polars cannot write bytes inside a list to JSON yet
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        texts = texts.str.slice(len('{"x":')).str.head(-1).replace("null", None)  # without the closing brace
        distinct = texts.drop_nulls().unique()  # a record without a field has null there if another record has it
        written = [json_text(from_json(text)) for text in distinct]
        return texts.replace_strict(distinct, written, return_dtype=pl.String).alias(column.name)
    if kind == pl.Date or (isinstance(kind, pl.Datetime) and kind.time_unit != "ns"):  # nanoseconds overflow in 2262
        scale = _A_DAY[kind.time_unit] if isinstance(kind, pl.Datetime) else 1
        # Polars panics when it formats times far beyond this range.
        return column.to_physical().clip(_FIRST_DAY * scale, _LAST_DAY * scale).cast(kind)
    return column


def scalar_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert lists, records, durations and bytes to text, and limit times to the years 1 to 9999.

    Each value is converted independently of the others. Columns that cannot be converted are dropped.
    """
    return pl.DataFrame([found for column in frame if (found := _scalars(column)) is not None])


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as text: whole floats as integers (13085.0 as 13085), NaN and empty text as null."""
    kind, value = frame.schema[column], pl.col(column)
    if kind.is_float():
        whole = (value == value.floor()) & (value.abs() < 2**53)
        shown = pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
        return pl.when(value.is_not_nan()).then(shown)
    return value.cast(pl.String).str.strip_chars().replace("", None)


def id_text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as text, with IDs that pandas wrote as floats (13085.0) as integers."""
    value = text(frame, column)
    if frame.schema[column] == pl.String and frame[column].str.contains(r"\.0+\s*$").any():
        return value.str.replace(_WHOLE, "$1")
    return value


def held(frame: pl.DataFrame, source: Category) -> tuple[pl.DataFrame, str]:
    """Return a frame and the column for a source; alternatives are coalesced.

    Alternatives of different types are coalesced as text.
    """
    present = [name for name in columns_of(source) if name in frame.columns]
    if len(present) == 1:
        return frame, present[0]
    if len({frame.schema[name] for name in present}) == 1 and frame.schema[present[0]] != pl.String:
        return frame.select(pl.coalesce(present).alias("value")), "value"
    return frame.select(pl.coalesce(text(frame, name) for name in present).alias("value")), "value"


def _unformatted(value: pl.Expr, decimal: str, thousands: str) -> pl.Expr:
    """Convert number texts from a declared format to Python's; text in any other format becomes null."""
    mark, group = re.escape(decimal), re.escape(thousands)
    value = value.str.replace_all(_SIGNS, "")
    if thousands == " ":
        value, group = value.str.replace_all("[\u00a0\u202f]", " "), " "
    grouped = rf"\d{{1,3}}(?:{group}\d{{3}})+|" if thousands else ""
    valid = value.str.contains(rf"^[+-]?(?:{grouped}\d*)(?:{mark}\d*)?(?:[eE][+-]?\d+)?$")
    value = value.str.replace_all(thousands, "", literal=True) if thousands else value
    return pl.when(valid).then(value.str.replace_all(decimal, ".", literal=True))


def number(frame: pl.DataFrame, column: str, kind: Any, csv: Csv = _PLAIN_CSV) -> pl.Expr:
    """Return a column of numbers or text as finite numbers of the Polars type `kind`; other values become null.

    If `csv` declares a decimal or thousands separator, numbers in text may have a currency sign.
    """
    source = frame.schema[column]
    # Convert 32-bit floats through text, so that 0.1 stays 0.1.
    value = pl.col(column) if source.is_integer() or source == pl.Float64 else text(frame, column)
    if source == pl.String and (csv.decimal != "." or csv.thousands):
        value = _unformatted(value, csv.decimal, csv.thousands)
    value = value.cast(pl.Float64, strict=False)
    if kind.is_integer():
        # pandas writes integer columns with missing values as floats: 1980.0
        return pl.when(value == value.floor()).then(value).cast(kind, strict=False)
    return pl.when(value.is_finite()).then(value)


def read_number(frame: pl.DataFrame, source: Category, kind: Any, csv: Csv) -> tuple[pl.Series, pl.Series]:
    """Return a source as numbers of the Polars type `kind`, and a mask of the rows with other values, such as NaN."""
    values, column = held(frame, source)
    is_text = values.schema[column] == pl.String
    given = text(values, column).is_not_null() if is_text else pl.col(column).is_not_null()
    found = values.select(number(values, column, kind, csv).alias("number"), given.alias("given"))
    return found["number"], found["given"] & found["number"].is_null()


def path(frame: pl.DataFrame, category: Category) -> pl.Expr:
    """Return a category path, or other text that a mapping builds from one or more columns."""
    parts = [text(frame, name) for name in columns_of(category)]
    if isinstance(category, SplitPath):
        return parts[0].str.replace_all(category.split, CATEGORY_SEPARATOR, literal=True)
    return pl.concat_str(parts, separator=CATEGORY_SEPARATOR, ignore_nulls=True).replace("", None)


def nobody(value: pl.Expr, words: Sequence[str] | None, *, numbers: bool = True) -> pl.Expr:
    """Return whether IDs, as text, are words that exports write for unknown people.

    `words` replaces the built-in words and numbers. Without `numbers`, 0 and -1 are valid IDs, as for sessions.
    """
    value = value.str.strip_chars()
    if words is not None:
        return value.str.to_lowercase().is_in([word.strip().lower() for word in words])
    return value.str.contains(_WORDS_AND_NUMBERS if numbers else _WORDS)


def is_nobody(value: str) -> bool:
    """Return whether an ID is one of the built-in words or numbers for unknown people."""
    return not value.strip() or re.match(_WORDS_AND_NUMBERS, value.strip()) is not None


def person(frame: pl.DataFrame, source: Source, words: Sequence[str] | None, *, numbers: bool) -> pl.Series:
    """Return person IDs: the first of the columns with a value that is not a word for `nobody`."""
    ids = [id_text(frame, name) for name in columns_of(source) if name in frame.columns]
    known = (pl.when(~nobody(one, words, numbers=numbers)).then(one) for one in ids)
    return frame.select(pl.coalesce(known)).to_series()


def without_missing(frame: pl.DataFrame, missing: Missing) -> pl.DataFrame:
    """Replace the words that mean "no value" with null, in all text columns or per column.

    In a named column, numbers are compared as numbers.
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


def attributes(frame: pl.DataFrame, names: list[str]) -> pl.Series:
    """Return each row's ATTRIBUTES: the non-empty columns of `names` as text, sorted by name.

    The collector sorts them too, so an event has the same content from a file as live.
    """
    if not names or frame.is_empty():
        return pl.select(pl.repeat(pl.lit([], dtype=ATTRIBUTES), frame.height).alias("attributes")).to_series()
    names = sorted(names)
    texts = frame.select(text(frame, name).alias(str(n)) for n, name in enumerate(names))
    held = np.column_stack([column.is_not_null().to_numpy() for column in texts])  # (rows, names)
    # Build lists from offsets and values: Polars' concat_list of records takes ten times as long.
    values = texts.select(pl.concat_list(pl.all()).alias("value")).explode("value", empty_as_null=False).to_series()
    keys = pl.Series("key", names)[np.tile(np.arange(len(names)), frame.height)[held.ravel()]]
    pairs = pl.DataFrame({"key": keys, "value": values.filter(pl.Series(held.ravel()))}).to_struct("pair")
    offsets = np.concatenate([[0], held.sum(axis=1).cumsum()])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pairs.to_arrow())
    return pl.Series("attributes", lists, dtype=ATTRIBUTES)
