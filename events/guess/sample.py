"""The first rows of a file of events, flat and as text, and how a text file is written.

Dialects are compared by parsing a sample with Python's `csv`: DuckDB's `sniff_csv` takes unbalanced quotes for quoting
and then merges neighbouring lines.
"""

import codecs
import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

import polars as pl

from events.guess.words import words
from events.mapping import Csv
from events.sources.files import TEXT, find_files, kind_of, open_unpacked
from events.transform.columns import number, text
from shoplens.errors import SourceError

READABLE = 0.95  # of the values of a column must be of a kind, or the column is not
_ROWS = 50_000
_RECORDS = 5_000  # of JSON or nested Parquet
_SAMPLE_BYTES = 1 << 22
_DIALECT_CHARACTERS = 1 << 18
_DIALECTS = (('"', '"'), ('"', "\\"), ("none", "none"), ("'", '"'))  # quote and escape
_UNQUOTED = ("none", "none")
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


def _read_start(path: Path) -> tuple[bytes, str]:
    """Return the first lines of a text file, and the encoding of the whole file, as Python names it.

    UTF-8 may have a few broken characters: those are rows to quarantine. Single-byte encodings other than cp1252 cannot
    be told from it by their bytes: a person must read the words.
    """
    start, good, broken = b"", 0, 0
    with open_unpacked(path) as stream:
        while block := stream.read(_SAMPLE_BYTES):
            block += stream.readline()
            start = start or block
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return start, "utf-16"
            if not block.isascii():
                decoded = block.decode(errors="replace")
                broken += (bad := decoded.count("\ufffd"))
                good += len(decoded) - bad - len(decoded.encode("ascii", errors="ignore"))
    if broken <= good:
        return start, "utf-8-sig"
    runs = re.findall(rb"[\x80-\xff]+", start)
    # Chinese is written in pairs of such bytes; in Western words, two of them in a row are rare.
    in_pairs = sum(len(run) % 2 == 0 for run in runs) > READABLE * len(runs)
    for encoding in ("gb18030", "cp1252") if in_pairs else ("cp1252", "gb18030"):
        with suppress(UnicodeDecodeError):  # bytes that the encoding does not define
            start.decode(encoding)
            return start, encoding
    return start, "latin-1"


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
        with suppress(csv.Error):
            widths = [len(row) for row in _rows(content, *dialect)]
            # Any separator that the file does not have leads to one column.
            if widths and widths[0] > 1:
                return 2 * widths.count(widths[0]) - len(widths), widths[0]
        return 0, 0

    order = sorted(_DIALECTS, key=lambda one: one[1] != "\\") if '\\"' in content else _DIALECTS
    best = max(((separator, *one) for separator, one in product(",;\t|", order)), key=fit)
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
    content = start.decode(encoding, errors="replace")
    content = content if len(start) < _SAMPLE_BYTES else content[: content.rfind("\n") + 1]
    encoding = encoding.removesuffix("-sig")
    separator, quote, escape = _detect_dialect(content)
    try:
        rows = _rows(content, separator, quote, escape)
    except csv.Error:
        quote, escape = _UNQUOTED
        rows = _rows(content.replace("\0", ""), separator, quote, escape)
    names, header = rows.pop(0) if rows else [], list[str]()
    if any(re.fullmatch(r"[-+]?\d[\d.,:/TZ +-]*", name.strip()) for name in names):
        rows.insert(0, names)
        names = header = [f"column_{n}" for n in range(1, len(names) + 1)]
    fitting = [row for row in rows if len(row) == len(names)]
    columns = {name: [row[n] for row in fitting] for n, name in enumerate(names)}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
    evidence = () if encoding == "utf-8" else tuple(dict.fromkeys(re.findall(r"\b\w*[^\x00-\x7f]\w*\b", content)))[:3]
    dialect = {"separator": separator, "header": header, "encoding": encoding, "quote": quote, "escape": escape}
    return Sample(frame, Csv.model_validate(dialect | _detect_numbers(rows)), evidence=evidence)


def _text(value: Any) -> str | None:
    """Return a scalar or a list as text; None for no value and an empty list."""
    if value is None or value == [] or isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str).strip('"')


def _as_records(value: Any) -> list[dict[str, Any]] | None:
    """Return a list of records, also one that is written as text; None for any other value."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        with suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else None


def _leaves(value: Any, address: str) -> Iterator[tuple[str, Any]]:
    """Yield the scalars of a record as text, and its lists of records, by address."""
    records = _as_records(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{address}.{key}" if address else key)
    elif records is not None and all({"key", "value"} <= set(one) for one in records):
        for pair in records:
            held = pair["value"]
            typed = next((v for v in held.values() if v is not None), None) if isinstance(held, dict) else held
            yield f"{address}[{pair['key']}]", _text(typed)
    else:
        yield address, _text(value) if records is None else records


def _flat_sample(records: list[dict[str, Any]]) -> Sample:
    """Return records as rows, or as one row per element of the list that most likely holds the lines of an order."""
    flat = [dict(_leaves(record, "")) for record in records]
    found = Counter(name for fields in flat for name, value in fields.items() if isinstance(value, list))
    lines = words()["lines"]
    each = max(found, key=lambda one: (one.split(".")[-1].lower() in lines, found[one]), default="")
    rows = [
        {name: value for name, value in (fields | dict(_leaves(element, each))).items() if not isinstance(value, list)}
        for fields in flat
        for element in _as_records(fields.get(each)) or [{}]
    ]
    names = dict.fromkeys(name for row in rows for name in row if name != each)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Sample(pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)), each=each or None)


def _json_sample(path: Path) -> Sample:
    """Return the first records of JSON Lines; lines that are no records are quarantined when they are ingested."""
    records = []
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        for line in islice(stream, _RECORDS):
            with suppress(ValueError):
                records.append(json.loads(line))
    return _flat_sample([record for record in records if isinstance(record, dict)])


def _parquet_sample(path: Path) -> Sample:
    frame = pl.scan_parquet(path, glob=False, hive_partitioning=False).head(_ROWS).collect()
    if any(kind.is_nested() for kind in frame.dtypes):
        return _flat_sample(frame.head(_RECORDS).to_dicts())
    kept = pl.selectors.temporal() | pl.selectors.string() | pl.selectors.binary()
    return Sample(frame.with_columns((~kept).cast(pl.String)))


def read_sample(path: Path) -> Sample:
    """Return the first rows of a file.

    Raises:
        SourceError: the file is missing, of an unknown kind, or unreadable.
    """
    find_files([path])
    kind = kind_of(path)
    if path.is_dir() or kind is None:
        raise SourceError(f"{path}: --guess reads one file; received a folder. Name the file of events")
    try:
        return sniff(path) if kind in TEXT else (_parquet_sample if kind == ".parquet" else _json_sample)(path)
    # Parsers name their own internals; what helps is which file, and what it should be.
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        what = "Parquet" if kind == ".parquet" else "gzip" if kind.endswith(".gz") else "text"
        raise SourceError(f"{path}: must be a whole, readable {what} file. Export it again") from error
