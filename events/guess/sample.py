"""The first rows of a file of events, flat and as text, whatever its kind, for a person or a program to judge."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from events.guess.sniff import Sample, open_by_name, sniff
from events.guess.words import words
from events.sources.files import TEXT, find_files, kind_of
from shoplens.errors import SourceError

_ROWS = 50_000
_RECORDS = 5_000  # of JSON or nested Parquet


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _as_records(value: Any) -> list[dict[str, Any]] | None:
    """Return a list of records, also one that is written as text; None for any other value."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
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
    elif records is not None:
        yield address, records
    elif isinstance(value, list):
        yield address, json.dumps(value, default=str) if value else None
    else:
        yield address, _text(value)


def _flat_sample(records: list[dict[str, Any]]) -> Sample:
    """Return records as rows, or as one row per element of the list that most likely holds the lines of an order."""
    flat = [dict(_leaves(record, "")) for record in records]
    found = Counter(name for fields in flat for name, value in fields.items() if isinstance(value, list))
    lines = words()["lines"]
    each = max(found, key=lambda one: (one.split(".")[-1].lower() in lines, found[one]), default=None)
    rows = []
    for fields in flat:
        held = fields.get(each or "")
        for element in held if isinstance(held, list) else [{}]:
            row = fields | dict(_leaves(element, each or ""))
            rows.append({name: value for name, value in row.items() if not isinstance(value, list)})
    names = dict.fromkeys(name for row in rows for name in row if name != each)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Sample(pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)), each=each)


def _json_sample(path: Path) -> Sample:
    """Return the first records of JSON Lines; lines that are no records are quarantined when they are ingested."""
    records = []
    with open_by_name(path) as stream:
        for line in islice(stream, _RECORDS):
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
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
