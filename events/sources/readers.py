"""Read CSV, Parquet and JSON Lines files as tables, in pieces that fit into memory.

For JSON Lines, DuckDB infers the structure of the records and Polars reads them. If a line is not a record, or a field
has mixed types (an object in one record, a list in another), a repaired copy is read: the most frequent type at an
address wins, and records with another type are replaced by placeholders, so that other rows keep their positions.
"""

import codecs
import json
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from events.mapping import Csv
from events.sources.csv_files import csv_pieces
from events.sources.files import (
    LONGEST,
    MALFORMED,
    TEXT,
    Piece,
    Size,
    first_line,
    is_packed,
    kind_of,
    malformed,
    open_unpacked,
    require_text,
)
from shoplens.errors import SourceError

_DAMAGED = (pl.exceptions.PolarsError, pa.ArrowException, duckdb.Error)
_NO_OPTIONS = Csv()
_TYPES = {"UBIGINT": pl.Int64(), "BIGINT": pl.Int64(), "DOUBLE": pl.Float64(), "BOOLEAN": pl.Boolean()}
# An integer beyond 64 bits, or text that looks like one: JSON readers would round it.
_LONG_NUMBER = r"[\[:,]\s*-?(\d{19}|NaN|Infinity|\d[\d.]*[eE]\+?\d{3})"
_INEXACT = r"[\[:,]\s*-?\d{16}"  # may have no exact 64-bit float
_REMEDIES = {
    "json_malformed": "the line is not JSON{why}; correct it, or remove the line",
    "not_a_record": "the line must be a JSON object with the fields of one record; correct it, or remove the line",
    "field_has_other_type": "{why}; write it as the other records do",
    "number_too_large": "a whole number must lie within 64 bits; write longer IDs as text",
    "not_utf8": "the line is not UTF-8 text; convert the file",
    "line_too_large": "a line must have at most 16 MiB; shorten it, or remove it",
}


def _parquet(path: Path, size: Size) -> Iterator[Piece]:
    scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    scan.collect_schema()
    with pq.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        held = sum(file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups))
    length = min(size.rows, max(1, 4 * size.bytes // (held // max(1, rows) + 1)))
    for start in range(0, max(1, rows), length):
        yield Piece(scan.slice(start, length).collect())


def _dtype(structure: Any) -> pl.DataType:
    """Return the Polars type of a structure inferred by DuckDB."""
    if isinstance(structure, dict):
        return pl.Struct({key: _dtype(one) for key, one in structure.items()})
    return pl.List(_dtype(structure[0])) if isinstance(structure, list) else _TYPES.get(structure, pl.String())


def _schema(place: Path, *, mixed: bool) -> pl.Schema | None:
    """Return the schema of the records, or None if they must be read one by one.

    They must if a line is not a record, if a number may be too large, or if a field has mixed types and `mixed` is
    False.
    """
    longest = 2 * LONGEST if mixed else LONGEST  # the copy may write a number with more characters
    find = (
        "SELECT json_group_structure(json)::VARCHAR, count(*) = count(json), "
        "bool_or(regexp_matches(json, $number)), bool_or(regexp_matches(json, $inexact)) "
        "FROM read_ndjson_objects($place, ignore_errors=true, compression='uncompressed', maximum_object_size=$longest)"
    )
    try:
        with duckdb.connect() as connection:
            given = {"place": str(place), "longest": longest, "number": _LONG_NUMBER, "inexact": _INEXACT}
            ((found, all_json, long_number, inexact),) = connection.execute(find, given).fetchall()
    except duckdb.Error:  # a record above the limit, or text that DuckDB cannot decode: read line by line
        return None
    one_by_one = found and (long_number or '"JSON"' in found or (inexact and '"DOUBLE"' in found))
    if not found or not all_json or (one_by_one and not mixed):
        return None
    structure = json.loads(found)
    return pl.Schema({key: _dtype(one) for key, one in structure.items()}) if isinstance(structure, dict) else None


def _kind(value: Any) -> str:
    return "object" if isinstance(value, dict) else "list" if isinstance(value, list) else "scalar"


def _kinds(value: Any, address: str = "") -> Iterator[tuple[str, str]]:
    """Yield every address of a record and its value: an object, a list or a scalar."""
    if value is not None:
        yield address, _kind(value)
    if isinstance(value, float):
        yield address, "float"
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _kinds(one, f"{address}.{key}".lstrip("."))
    elif isinstance(value, list):
        for one in value:
            yield from _kinds(one, f"{address}[]")


def _fitted(value: Any, usual: dict[str, str], floats: set[str], address: str = "") -> Any:
    """Return a value, decoding JSON text where most records have an object or a list.

    A whole number that a float cannot hold is written as text where other records have floats.

    Raises:
        TypeError: a value has a different type than in most records.
    """
    if value is None or address not in usual:
        return value
    if isinstance(value, str) and usual[address] != "scalar":
        with suppress(ValueError):  # otherwise compare it as text
            value = json.loads(value)
    if _kind(value) != usual[address]:
        raise TypeError(f"{address} holds one {_kind(value)} where most records hold one {usual[address]}")
    if isinstance(value, dict):
        return {key: _fitted(one, usual, floats, f"{address}.{key}".lstrip(".")) for key, one in value.items()}
    if isinstance(value, list):
        return [_fitted(one, usual, floats, f"{address}[]") for one in value]
    return str(value) if address in floats and type(value) is int and abs(value) > 2**53 else value


def _whole(digits: str) -> int:
    """Parse a JSON integer; raise an OverflowError beyond 64 bits."""
    value = int(digits)
    if not -(2**63) <= value < 2**63:
        raise OverflowError
    return value


def _finite(digits: str) -> float:
    """Return a number of JSON; raise a ValueError for NaN, infinity and what is as large."""
    value = float(digits)
    if not isfinite(value):
        raise ValueError(digits)
    return value


def _records(place: Path) -> Iterator[tuple[int, str, Any, str, str]]:
    """Yield the number and text of each non-blank line, its record, and its fault with an explanation."""
    with place.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            text, record, reason, why = line.decode("utf-8-sig", errors="backslashreplace").strip(), None, "", ""
            if not text:
                continue
            try:
                line.decode()
                record = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
                json.dumps(record, ensure_ascii=False).encode()  # half of a surrogate pair is no text
                reason = "" if isinstance(record, dict) else "not_a_record"
            except UnicodeDecodeError:
                reason = "not_utf8"
            except OverflowError:
                reason = "number_too_large"
            except (ValueError, RecursionError) as error:  # also too many digits or brackets
                reason = "json_malformed"
                why = f" at character {error.pos + 1:,}" if isinstance(error, json.JSONDecodeError) else ""
            yield number, text, record, "line_too_large" if len(line) > LONGEST else reason, why


def _repaired(path: Path, place: Path, target: Path) -> pl.Schema:
    """Write a copy with placeholders for malformed records; return the schema of the copy.

    Raises:
        SourceError: no line contains a record.
    """
    counts: dict[str, Counter[str]] = {}
    for _, _, record, reason, _ in _records(place):
        for address, kind in () if reason else _kinds(record):
            counts.setdefault(address, Counter())[kind] += 1
    # Break ties in favour of the wider type.
    usual = {at: max(("list", "object", "scalar"), key=found.__getitem__) for at, found in counts.items()}
    floats = {at for at, found in counts.items() if found["float"]}
    with target.open("w", encoding="utf-8") as out:
        for number, text, record, fault, because in _records(place):
            fitted, reason, why = record, fault, because
            try:
                fitted = record if reason else _fitted(record, usual, floats)
            except TypeError as error:
                reason, why = "field_has_other_type", str(error)
            if reason:
                fitted = {MALFORMED: malformed(reason, number, text, _REMEDIES[reason].format(why=why))}
            out.write(json.dumps(fitted, ensure_ascii=False, separators=(",", ":")) + "\n")
    schema = _schema(target, mixed=True)
    if schema is None or not set(schema) - {MALFORMED}:
        kind = (kind_of(path) or "").lstrip(".")
        raise SourceError(f"{path}: cannot be read as {kind}: no line is a record, a JSON object with fields")
    return schema


def _json_lines(path: Path, size: Size) -> Iterator[Piece]:
    with tempfile.TemporaryDirectory(prefix="shoplens-json-") as folder:
        with open_unpacked(path) as stream:
            start = stream.read(1 << 16)
        require_text(path, start)
        place = path
        if is_packed(path):
            place = Path(folder) / "text.jsonl"
            with open_unpacked(path) as stream, place.open("wb") as out:
                shutil.copyfileobj(stream, out)
        schema = None if start.startswith(codecs.BOM_UTF8) else _schema(place, mixed=False)
        if schema is None:
            repaired = Path(folder) / "repaired.jsonl"
            schema, place = _repaired(path, place, repaired), repaired
        empty = True
        with place.open("rb") as stream:
            while block := stream.read(size.bytes):
                block += b"" if block.endswith(b"\n") else stream.readline()
                read = pl.read_ndjson(block, schema=schema) if block.strip() else pl.DataFrame(schema=schema)
                for frame in read.iter_slices(size.rows):
                    yield Piece(frame)
                    empty = False
        if empty:
            raise SourceError(f"{path}: must hold one record per line; received none")


def pieces(path: Path, dialect: Csv = _NO_OPTIONS, size: Size | None = None) -> Iterator[Piece]:
    """Yield a file in pieces, at least one. CSV columns are text; the mapping interprets them.

    Args:
        path: The file.
        dialect: Dialect of a CSV file.
        size: Limits of a piece.

    Raises:
        SourceError: the file cannot be read as the kind that its name states.
    """
    kind, size = kind_of(path) or "", size or Size()
    try:
        if kind == ".parquet":
            yield from _parquet(path, size)
        elif kind in TEXT:
            yield from csv_pieces(path, dialect, size)
        else:
            yield from _json_lines(path, size)
    except _DAMAGED as error:
        raise SourceError(
            f"{path}: cannot be read as {kind.lstrip('.')}: the file is cut off, damaged or of another kind than its "
            f"name states. Give the whole file"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read as {kind.lstrip('.')}: {first_line(error)}") from error


def read_table(path: Path, dialect: Csv = _NO_OPTIONS) -> pl.DataFrame:
    """Read a file into memory; all values of malformed rows are null.

    Raises:
        SourceError: the file cannot be read as the kind that its name states.
    """
    return pl.concat([piece.frame.drop(MALFORMED, strict=False) for piece in pieces(path, dialect)])
