"""How a text file is written: its encoding, separator, quotes, header and decimal mark.

Dialects are compared by parsing a sample with Python's `csv`: DuckDB's `sniff_csv` takes unbalanced quotes for quoting
and then merges neighbouring lines.
"""

import codecs
import csv
import gzip
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from events.mapping import Csv
from events.transform.columns import number, text

READABLE = 0.95  # of the values of a column must be of a kind, or the column is not
_SAMPLE_BYTES = 1 << 22
_DIALECT_CHARACTERS = 1 << 18
_DIALECTS = (('"', '"'), ('"', "\\"), ("none", "none"), ("'", '"'))  # quote and escape
_UNQUOTED = ("none", "none")
# Tried where the bytes are not UTF-8. Each rejects bytes that it does not define, the last none.
_ENCODINGS = ("cp1252", "gb18030", "latin-1")
_UNIT = r"\s*(?:[€$£¥]|[A-Z]{3})?\s*"


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        frame: Columns as text, or as dates and timestamps where Parquet has these; those of records are addresses.
        csv: How a text file is written; `header` is filled if the file has no line of names.
        each: The address of the list whose elements are rows of their own, if there is one.
        evidence: Words that only the detected encoding spells so; empty for UTF-8.
    """

    frame: pl.DataFrame
    csv: Csv = field(default_factory=Csv)
    each: str | None = None
    evidence: tuple[str, ...] = ()

    def texts(self, column: str) -> pl.Series:
        """Return a column as text, with blank values as null."""
        return self.frame.select(text(self.frame, column)).to_series()

    def filled(self, column: str) -> pl.Series:
        """Return the values of a column as text, without blank ones."""
        return self.texts(column).drop_nulls()

    def numbers(self, column: str) -> pl.Series:
        """Return a column as numbers, in the format of the file."""
        return self.frame.select(number(self.frame, column, pl.Float64(), self.csv)).to_series()


def open_by_name(path: Path) -> IO[bytes]:
    """Open a file for its content, decompressed if its name ends in .gz."""
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _read_start(path: Path) -> tuple[bytes, str]:
    """Return the first bytes of a text file, and the encoding of the whole file, as Python names it.

    UTF-8 may have a few broken characters: those are rows to quarantine. Single-byte encodings other than cp1252 cannot
    be told from it by their bytes: a person must read the words.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    good = broken = 0
    with open_by_name(path) as stream:
        block = start = stream.read(_SAMPLE_BYTES)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return start, "utf-16"
        while block:
            if not block.isascii():
                decoded = decoder.decode(block)
                broken += (bad := decoded.count("\ufffd"))
                good += len(decoded) - bad - len(decoded.encode("ascii", errors="ignore"))
            block = stream.read(_SAMPLE_BYTES)
    if broken <= good:
        return start, "utf-8"
    runs = re.findall(rb"[\x80-\xff]+", start)
    # Chinese is written in pairs of such bytes; in Western words, two of them in a row are rare.
    in_pairs = sum(len(run) % 2 == 0 for run in runs) > READABLE * len(runs)
    for encoding in ("gb18030", *_ENCODINGS) if in_pairs else _ENCODINGS:
        try:
            codecs.getincrementaldecoder(encoding)().decode(start)
        except UnicodeDecodeError:
            continue
        return start, encoding
    raise AssertionError("latin-1 decodes every byte")


def _rows(content: str, separator: str, quote: str, escape: str) -> list[list[str]]:
    """Return the rows that are not empty.

    Raises:
        csv.Error: the text is not written so.
    """
    how: dict[str, Any] = {"delimiter": separator, "doublequote": escape == '"'}
    how |= {"quoting": csv.QUOTE_NONE} if quote == "none" else {"quotechar": quote}
    how |= {"escapechar": "\\"} if escape == "\\" else {}
    return [row for row in csv.reader(io.StringIO(content, newline=""), **how) if row]


def _detect_dialect(content: str) -> tuple[str, str, str]:
    """Return the separator, quote and escape that a text fits best, the first of equals."""
    content = content[:_DIALECT_CHARACTERS]
    content = content[: content.rfind("\n") + 1] or content

    def fit(dialect: tuple[str, str, str]) -> tuple[int, int]:
        """Return rows as wide as the first minus the others, then the width."""
        try:
            rows = _rows(content, *dialect)
        except csv.Error:
            return 0, 0
        width = len(rows[0]) if rows else 0
        # Any separator that the file does not have leads to one column.
        return (2 * sum(len(row) == width for row in rows) - len(rows), width) if width > 1 else (0, 0)

    order = sorted(_DIALECTS, key=lambda one: one[1] != "\\") if '\\"' in content else _DIALECTS
    best = max(((separator, *one) for separator in (",", ";", "\t", "|") for one in order), key=fit)
    unquoted = (best[0], *_UNQUOTED)
    if '"' in content and fit(unquoted) == fit(best):
        fields = (field for row in _rows(content, *unquoted) for field in row)
        if not any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
            return unquoted  # inches, and not quotes
    return best


def _detect_numbers(rows: list[list[str]]) -> dict[str, str]:
    """Return decimal mark and thousands mark of the values; "1.299" alone decides nothing."""
    values = pl.Series([value for row in rows for value in row if value and len(value) < 25], dtype=pl.String)
    counts, marks = {}, {}
    for decimal, groups in ((".", ",' \u00a0"), (",", ".' \u00a0")):
        whole = rf"^{_UNIT}[-+]?\d{{1,3}}(?:[{groups}]\d{{3}})+(?:[{decimal}]\d+)?{_UNIT}$"
        grouped = values.filter(values.str.contains(whole))
        alone = values.str.contains(rf"^{_UNIT}[-+]?\d+[{decimal}](?:\d{{1,2}}|\d{{4,}}){_UNIT}$")
        counts[decimal] = int(alone.sum()) + int(grouped.str.contains(decimal, literal=True).sum())
        marks[decimal] = "".join(grouped).replace("\u00a0", " ")
    decimal = "," if counts[","] > counts["."] else "."
    thousands = (mark for mark in ".,' " if mark != decimal and mark in marks[decimal])
    return {"decimal": decimal, "thousands": next(thousands, "")}


def sniff(path: Path) -> Sample:
    """Return how a text file with columns is written, and its first rows, all columns as text.

    Raises:
        OSError: the file cannot be read.
    """
    start, encoding = _read_start(path)
    content = codecs.getincrementaldecoder(encoding)(errors="replace").decode(start).removeprefix("\ufeff")
    content = content if len(start) < _SAMPLE_BYTES else content[: content.rfind("\n") + 1]
    separator, quote, escape = _detect_dialect(content)
    try:
        rows = _rows(content, separator, quote, escape)
    except csv.Error:
        quote, escape = _UNQUOTED
        rows = _rows(content.replace("\0", ""), separator, quote, escape)
    width = len(rows[0]) if rows else 0
    if rows and any(re.fullmatch(r"[-+]?\d[\d.,:/TZ +-]*", field.strip()) for field in rows[0]):
        names = header = [f"column_{n}" for n in range(1, width + 1)]
    else:
        names, header = rows.pop(0) if rows else [], []
    dialect = {"separator": separator, "header": header, "encoding": encoding, "quote": quote, "escape": escape}
    fitting = [row for row in rows if len(row) == width]
    columns = {name: [row[n] for row in fitting] for n, name in enumerate(names)}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
    evidence = () if encoding == "utf-8" else tuple(dict.fromkeys(re.findall(r"\b\w*[^\x00-\x7f]\w*\b", content)))[:3]
    return Sample(frame, Csv.model_validate(dialect | _detect_numbers(rows)), evidence=evidence)
