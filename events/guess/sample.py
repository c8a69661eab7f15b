"""The first rows of a file of events, flat and as text, whatever its kind, for a person or a program to judge."""

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from events.mapping import Csv
from events.sources.files import TEXT, find_files, kind_of
from events.sources.sniff import sniff
from shoplens.errors import SourceError

_ROWS = 50_000
_RECORDS = 5_000  # of JSON or nested Parquet
_LINES_NAMES = {"products", "items", "line_items", "lineitems", "lines", "productdetails", "events", "positions"}


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        frame: Columns as text, or as dates and timestamps where Parquet has these; those of records are addresses.
        csv: How a text file is written; None for other kinds.
        each: The address of the list whose elements are rows of their own, if there is one.
        evidence: Words that only the detected encoding spells so.
    """

    frame: pl.DataFrame
    csv: Csv | None = None
    each: str | None = None
    evidence: tuple[str, ...] = ()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_list(value: Any) -> list[dict[str, Any]] | None:
    """Return a list of records, also one that is written as text; None for any other value."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else None


def _flatten(value: Any, address: str, fields: dict[str, Any], lists: dict[str, list[dict[str, Any]]]) -> None:
    """Add the scalar values of a record to `fields` by address, and its lists of records to `lists`."""
    records = _as_list(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{address}.{key}" if address else key, fields, lists)
    elif records is not None and all({"key", "value"} <= set(one) for one in records):
        for pair in records:
            held = pair["value"]
            typed = next((v for v in held.values() if v is not None), None) if isinstance(held, dict) else held
            fields[f"{address}[{pair['key']}]"] = _text(typed)
    elif records is not None:
        lists[address] = records
    elif isinstance(value, list):
        fields[address] = json.dumps(value, default=str) if value else None
    else:
        fields[address] = _text(value)


def _flat_sample(records: list[dict[str, Any]]) -> Sample:
    flat: list[tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]] = []
    found: Counter[str] = Counter()
    for record in records:
        fields: dict[str, Any] = {}
        lists: dict[str, list[dict[str, Any]]] = {}
        _flatten(record, "", fields, lists)
        flat.append((fields, lists))
        found.update(lists)
    each = max(found, key=lambda one: (one.split(".")[-1].lower() in _LINES_NAMES, found[one]), default=None)
    rows = []
    for fields, lists in flat:
        for element in lists.get(each or "", [{}]):
            inner: dict[str, Any] = {}
            _flatten(element, each or "", inner, {})
            rows.append({**fields, **(inner if element else {})})
    names = dict.fromkeys(name for row in rows for name in row if name != each)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Sample(pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)), each=each)


def _json_records(path: Path) -> list[dict[str, Any]]:
    """Return the first records of JSON Lines; lines that are no records are quarantined when they are ingested."""
    records = []
    with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
        for line in islice(stream, _RECORDS):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


def _parquet_sample(path: Path) -> Sample:
    frame = pl.scan_parquet(path, glob=False, hive_partitioning=False).head(_ROWS).collect()
    if any(kind.is_nested() for kind in frame.dtypes):
        return _flat_sample(frame.head(_RECORDS).to_dicts())
    kept = pl.selectors.temporal() | pl.selectors.string()
    return Sample(frame.with_columns((~kept & ~pl.selectors.binary()).cast(pl.String)))


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
        if kind in TEXT:
            found = sniff(path)
            return Sample(found.frame, found.csv, evidence=found.encoding_evidence)
        return _parquet_sample(path) if kind == ".parquet" else _flat_sample(_json_records(path))
    # Parsers name their own internals; what helps is which file, and what it should be.
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        what = {".parquet": "Parquet"}.get(kind, "gzip" if kind.endswith(".gz") else "text")
        raise SourceError(f"{path}: must be a whole, readable {what} file. Export it again") from error
