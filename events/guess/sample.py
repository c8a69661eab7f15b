"""Read the first rows of an event file as flat text columns, and detect the dialect of a text file.

Dialects are compared by parsing a sample with Python's `csv`, because DuckDB's `sniff_csv` mistakes unbalanced quotes
for quoting and then merges neighbouring lines.
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

READABLE = 0.95  # share of a column's values that must have a type for the column to have it
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
        frame: Columns as text, or as dates and timestamps from Parquet; nested fields are columns named by address.
        csv: Dialect of a text file; `header` is set if the file has no header line.
        each: Address of the list whose elements become rows, if any.
        evidence: Words decoded with the detected encoding, as evidence for it; empty for UTF-8.
    """

    frame: pl.DataFrame
    csv: Csv = field(default_factory=Csv)
    each: str | None = None
    evidence: tuple[str, ...] = ()

    def texts(self, column: str) -> pl.Series:
        """Return a column as text, with blank values as null."""
        return self.frame.select(text(self.frame, column)).to_series()

    def filled(self, column: str) -> pl.Series:
        """Return the non-blank values of a column as text."""
        return self.texts(column).drop_nulls()

    def numbers(self, column: str) -> pl.Series:
        """Return a column as numbers, parsed in the file's number format."""
        return self.frame.select(number(self.frame, column, pl.Float64(), self.csv)).to_series()


def _read_start(path: Path) -> tuple[bytes, str]:
    """Return the first lines of a text file, and Python's name for the encoding of the whole file.

    UTF-8 may contain a few broken characters, whose rows will be quarantined. Other single-byte encodings cannot be
    distinguished from cp1252 by their bytes, so a person must check the words.
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
    # Chinese encodings use such bytes in pairs, which are rare in Western text.
    in_pairs = sum(len(run) % 2 == 0 for run in runs) > READABLE * len(runs)
    for encoding in ("gb18030", "cp1252") if in_pairs else ("cp1252", "gb18030"):
        with suppress(UnicodeDecodeError):  # bytes that the encoding does not define
            start.decode(encoding)
            return start, encoding
    return start, "latin-1"


def _rows(content: str, separator: str, quote: str, escape: str) -> list[list[str]]:
    """Return the rows that are not empty.

    Raises:
        csv.Error: the text does not fit the dialect.
    """
    how: dict[str, Any] = {"delimiter": separator, "doublequote": escape == '"'}
    how |= {"quoting": csv.QUOTE_NONE} if quote == "none" else {"quotechar": quote}
    how |= {"escapechar": "\\"} if escape == "\\" else {}
    return [row for row in csv.reader(io.StringIO(content, newline=""), **how) if row]


def _detect_dialect(content: str) -> tuple[str, str, str]:
    """Return the separator, quote and escape that fit a text best; the first one wins a tie."""
    content = content[:_DIALECT_CHARACTERS]
    content = content[: content.rfind("\n") + 1] or content

    def fit(dialect: tuple[str, str, str]) -> tuple[int, int]:
        """Return the number of rows as wide as the first minus the number of others, and the width."""
        with suppress(csv.Error):
            widths = [len(row) for row in _rows(content, *dialect)]
            # A separator that does not occur yields a single column.
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
    """Return the decimal and thousands marks of the values; "1.299" alone is ambiguous."""
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
    """Return the dialect of a delimited text file, and its first rows as text columns.

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
    """Return a list of records, also from JSON text; None for any other value."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        with suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else None


def _leaves(value: Any, address: str) -> Iterator[tuple[str, Any]]:
    """Yield each scalar of a record as text, and each list of records, with its address."""
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
    """Return one row per record, or per element of the list that most likely holds an order's lines."""
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
    """Return the first records of a JSON Lines file; other lines are skipped, and quarantined on ingest."""
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
    # Parser messages describe internals; naming the file and the expected format is more helpful.
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        what = "Parquet" if kind == ".parquet" else "gzip" if kind.endswith(".gz") else "text"
        raise SourceError(f"{path}: must be a whole, readable {what} file. Export it again") from error
