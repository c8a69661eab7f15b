"""How a text file is written: its encoding, separator, quotes, header and decimal mark.

Dialects are compared by parsing a sample with Python's `csv`: DuckDB's `sniff_csv` takes unbalanced quotes for quoting
and then merges neighbouring lines.
"""

import codecs
import csv
import gzip
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import polars as pl

from events.mapping import Csv

SAMPLE_BYTES = 1 << 22
_DIALECT_CHARACTERS = 1 << 18
_SEPARATORS = (",", ";", "\t", "|")
Dialect = tuple[str, str]  # quote and escape
_STANDARD: Dialect = ('"', '"')
_BACKSLASH: Dialect = ('"', "\\")
_UNQUOTED: Dialect = ("none", "none")
_SINGLE: Dialect = ("'", '"')
# Tried where the bytes are not UTF-8. Each rejects bytes that it does not define, the last none.
_ENCODINGS = ("cp1252", "gb18030", "latin-1")

_SIGN, _UNIT = r"[-+]?", r"\s*(?:[€$£¥]|[A-Z]{3})?\s*"
_WHOLE, _GROUPED = r"\d{1,3}(?:[%s]\d{3})+", r"^%s%s%s(?:%s\d+)?%s$"
READABLE = 0.95  # of the values of a column must be of a kind, or the column is not


@dataclass(frozen=True)
class Sniffed:
    """The dialect of a text file and its first rows.

    Attributes:
        csv: How the file is written; `header` is filled if the file has no line of names.
        frame: The first rows, all columns as text.
        encoding_evidence: Words that only the chosen encoding spells so; empty for UTF-8.
    """

    csv: Csv
    frame: pl.DataFrame
    encoding_evidence: tuple[str, ...] = ()


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _is_utf8(path: Path) -> bool:
    """Return whether a file is UTF-8, a few broken characters aside: those are rows to quarantine."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    good = broken = 0
    with _open(path) as stream:
        while block := stream.read(SAMPLE_BYTES):
            if not block.isascii():
                text = decoder.decode(block)
                bad = text.count("\ufffd")
                broken += bad
                good += len(text) - bad - len(text.encode("ascii", errors="ignore"))
    return broken <= good


def detect_encoding(path: Path) -> str:
    """Return the encoding of a whole text file, as Python names it.

    Single-byte encodings other than cp1252 cannot be told from it by their bytes: ask a person to read the words.
    """
    with _open(path) as stream:
        start = stream.read(SAMPLE_BYTES)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if _is_utf8(path):
        return "utf-8"
    runs = re.findall(rb"[\x80-\xff]+", start)
    # Chinese is written in pairs of such bytes; in Western words, two of them in a row are rare.
    in_pairs = sum(len(run) % 2 == 0 for run in runs) > READABLE * len(runs)
    for encoding in ("gb18030", *_ENCODINGS) if in_pairs else _ENCODINGS:
        try:
            codecs.getincrementaldecoder(encoding)().decode(start)
        except UnicodeDecodeError:
            continue
        return encoding
    raise AssertionError("latin-1 decodes every byte")


def read_sample_text(path: Path, encoding: str) -> str:
    """Return the start of a text file, whole lines, without its byte-order mark."""
    with _open(path) as stream:
        start = stream.read(SAMPLE_BYTES)
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(start).removeprefix("\ufeff")
    return text if len(start) < SAMPLE_BYTES else text[: text.rfind("\n") + 1]


def _rows(text: str, separator: str, dialect: Dialect) -> list[list[str]]:
    """Return the rows that are not empty.

    Raises:
        csv.Error: the text is not written so.
    """
    quote, escape = dialect
    how: dict[str, Any] = {"delimiter": separator, "doublequote": escape == '"'}
    how |= {"quoting": csv.QUOTE_NONE} if quote == "none" else {"quotechar": quote}
    how |= {"escapechar": "\\"} if escape == "\\" else {}
    return [row for row in csv.reader(io.StringIO(text, newline=""), **how) if row]


def _fit(text: str, separator: str, dialect: Dialect) -> tuple[int, int]:
    """Return how well a text fits: rows as wide as the first minus the others, then the width."""
    try:
        rows = _rows(text, separator, dialect)
    except csv.Error:
        return 0, 0
    width = len(rows[0]) if rows else 0
    if width < 2:  # one column: any separator that the file does not have leads here
        return 0, 0
    fitting = sum(len(row) == width for row in rows)
    return 2 * fitting - len(rows), width


def _detect_dialect(text: str) -> tuple[str, Dialect]:
    text = text[:_DIALECT_CHARACTERS]
    text = text[: text.rfind("\n") + 1] or text
    order = [_STANDARD, _BACKSLASH, _UNQUOTED, _SINGLE]
    if '\\"' in text:
        order = [_BACKSLASH, _STANDARD, _UNQUOTED, _SINGLE]
    best = max(((s, d) for s in _SEPARATORS for d in order), key=lambda one: _fit(text, *one))  # first of equals
    separator = best[0]
    if '"' in text and _fit(text, separator, _UNQUOTED) == _fit(text, *best):
        fields = (field for row in _rows(text, separator, _UNQUOTED) for field in row)
        if not any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
            return separator, _UNQUOTED  # inches, and not quotes
    return best


def _counts(values: list[str], decimal: str, groups: str) -> tuple[int, set[str]]:
    """Return how many values only make sense with this decimal mark, and the thousands marks among the values."""
    mark = re.escape(decimal)
    alone = re.compile(rf"^{_UNIT}{_SIGN}\d+{mark}(?:\d{{1,2}}|\d{{4,}}){_UNIT}$")
    grouped = re.compile(_GROUPED % (_UNIT, _SIGN, _WHOLE % re.escape(groups), mark, _UNIT))
    count, marks = 0, set()
    for value in values:
        if grouped.match(value):
            marks |= set(groups) & set(value)
            count += decimal in value
        elif alone.match(value):
            count += 1
    return count, marks


def _detect_numbers(rows: list[list[str]]) -> tuple[Literal[".", ","], str]:
    """Return decimal mark and thousands mark of the values; "1.299" alone decides nothing."""
    values = [value for row in rows for value in row if value and len(value) < 25]
    comma, with_comma = _counts(values, ",", ".' \u00a0")
    point, with_point = _counts(values, ".", ",' \u00a0")
    decimal: Literal[".", ","] = "," if comma > point else "."
    marks = {" " if mark == "\u00a0" else mark for mark in (with_comma if decimal == "," else with_point)}
    return decimal, next((mark for mark in (".", ",", "'", " ") if mark in marks), "")


def _has_names(first: list[str]) -> bool:
    return not any(re.fullmatch(r"[-+]?\d[\d.,:/TZ +-]*", field.strip()) for field in first)


def sniff(path: Path) -> Sniffed:
    """Return how a text file with columns is written, and its first rows.

    Raises:
        OSError: the file cannot be read.
    """
    encoding = detect_encoding(path)
    text = read_sample_text(path, encoding)
    separator, dialect = _detect_dialect(text)
    try:
        rows = _rows(text, separator, dialect)
    except csv.Error:
        dialect = _UNQUOTED
        rows = _rows(text.replace("\0", ""), separator, dialect)
    named = not rows or _has_names(rows[0])
    width = len(rows[0]) if rows else 0
    names = rows.pop(0) if named and rows else [f"column_{n}" for n in range(1, width + 1)]
    decimal, thousands = _detect_numbers(rows)
    how = Csv.model_validate(
        {
            "separator": separator,
            "header": () if named else names,
            "encoding": encoding,
            "quote": dialect[0],
            "escape": dialect[1],
            "decimal": decimal,
            "thousands": thousands,
        }
    )
    fitting = [row for row in rows if len(row) == width]
    columns = zip(*fitting, strict=True) if fitting else [()] * width
    schema = dict.fromkeys(names, pl.String)
    frame = pl.DataFrame({name: list(held) for name, held in zip(names, columns, strict=True)}, schema=schema)
    evidence = () if encoding == "utf-8" else tuple(dict.fromkeys(re.findall(r"\b\w*[^\x00-\x7f]\w*\b", text)))[:3]
    return Sniffed(how, frame, evidence)
