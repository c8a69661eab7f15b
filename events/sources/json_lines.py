"""JSON Lines: DuckDB finds the structure of the records, Polars reads them.

Where every record has the same structure, the file is read as it is. Otherwise a repaired copy is read: a record with
an object where most records have a list, or a line that is not JSON, becomes a placeholder, and its neighbours stay.
"""

import codecs
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from events.sources.files import (
    MALFORMED,
    Piece,
    Size,
    blocks,
    is_packed,
    kind_of,
    malformed_text,
    open_unpacked,
    require_text,
)
from shoplens.errors import SourceError

_MARK = "\x1f"  # the key of a placeholder
_OBJECT, _LIST, _SCALAR = "object", "list", "scalar"
_TYPES = {
    "VARCHAR": pl.String(),
    "UBIGINT": pl.Int64(),
    "BIGINT": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "BOOLEAN": pl.Boolean(),
    "NULL": pl.String(),
}
_REMEDIES = {
    "json_malformed": "the line is not JSON{why}; correct it, or remove the line",
    "not_a_record": "the line must be a JSON object with the fields of one record; correct it, or remove the line",
    "field_has_other_type": "{why}; write it as the other records do",
    "not_utf8": "the line is not UTF-8 text; convert the file",
}


class _OtherTypeError(Exception):
    """A field holds an object, a list or a scalar where most records have another of these."""


def _kind(value: Any) -> str:
    return _OBJECT if isinstance(value, dict) else _LIST if isinstance(value, list) else _SCALAR


@dataclass
class _Shape:
    """What the values at one address of the records are."""

    kinds: Counter[str] = field(default_factory=Counter)
    types: set[type] = field(default_factory=set)
    fields: dict[str, "_Shape"] = field(default_factory=dict)
    item: "_Shape | None" = None
    widest: int = 0

    @property
    def kind(self) -> str:
        """The most frequent kind; of two that are as frequent, the one that holds more."""
        return max((_LIST, _OBJECT, _SCALAR), key=self.kinds.__getitem__)  # the first of equals

    def add(self, value: Any) -> None:
        """Count a value."""
        if value is None:
            return
        kind = _kind(value)
        self.kinds[kind] += 1
        if kind == _OBJECT:
            for key, one in value.items():
                self.fields.setdefault(key, _Shape()).add(one)
        elif kind == _LIST:
            self.item = self.item or _Shape()
            for one in value:
                self.item.add(one)
        else:
            self.types.add(type(value))
            if isinstance(value, int):
                self.widest = max(self.widest, abs(value))

    def fitted(self, value: Any, address: str = "") -> Any:
        """Return a value with JSON held in text decoded where the others have an object or a list.

        Raises:
            _OtherTypeError: a value is of another kind than most.
        """
        if value is None:
            return None
        if isinstance(value, str) and self.kind != _SCALAR:
            with suppress(ValueError):  # else compared as the text that it is
                value = json.loads(value)
        kind = _kind(value)
        if kind != self.kind:
            raise _OtherTypeError(f"{address} holds one {kind} where most records hold one {self.kind}")
        if kind == _OBJECT:
            return {
                key: self.fields[key].fitted(one, f"{address}.{key}".lstrip(".")) if key in self.fields else one
                for key, one in value.items()
            }
        if kind == _LIST and self.item is not None:
            return [self.item.fitted(one, f"{address}[]") for one in value]
        return value

    def dtype(self) -> pl.DataType:
        """Return the type of the values."""
        if self.kind == _LIST and self.kinds[_LIST]:
            return pl.List(self.item.dtype() if self.item else pl.String())
        if self.kind == _OBJECT and self.fields:
            return pl.Struct({key: shape.dtype() for key, shape in self.fields.items()})
        if self.types == {bool}:
            return pl.Boolean()
        if self.types == {int}:
            return pl.Int64() if self.widest < 2**63 else pl.Int128() if self.widest < 2**127 else pl.String()
        return pl.Float64() if self.types and self.types <= {int, float} and self.widest < 2**53 else pl.String()


def _dtype(structure: Any) -> pl.DataType:
    """Return the type of a structure that DuckDB found."""
    if isinstance(structure, dict):
        return pl.Struct({key: _dtype(one) for key, one in structure.items()})
    return pl.List(_dtype(structure[0])) if isinstance(structure, list) else _TYPES[structure]


def _uniform_schema(place: Path) -> pl.Schema | None:
    """Return the schema of the records, or None where a line is no record or values differ in kind."""
    find = (
        "SELECT json_group_structure(json)::VARCHAR, count(*) = count(json) "
        "FROM read_ndjson_objects($place, ignore_errors=true, compression='uncompressed')"
    )
    try:
        with duckdb.connect() as connection:
            ((found, all_json),) = connection.execute(find, {"place": str(place)}).fetchall()
    except duckdb.Error:  # a record above DuckDB's limit, or text that it cannot decode: read line by line
        return None
    if not found or not all_json:
        return None
    structure = json.loads(found)
    uniform = isinstance(structure, dict) and structure and '"JSON"' not in found and "{}" not in found
    return pl.Schema({key: _dtype(one) for key, one in structure.items()}) if uniform else None


def _records(place: Path) -> Iterator[tuple[int, str, Any, str, str]]:
    """Yield the number and text of each line that is not blank, its record, and what is wrong with it and why."""
    with place.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                record = json.loads(text)
            except UnicodeDecodeError:
                yield number, line.decode(errors="backslashreplace").strip(), None, "not_utf8", ""
            except json.JSONDecodeError as error:
                yield number, text, None, "json_malformed", f" at character {error.pos + 1:,}"
            except (ValueError, RecursionError):  # digits without end, or thousands of brackets
                yield number, text, None, "json_malformed", ""
            else:
                yield number, text, record, "" if isinstance(record, dict) else "not_a_record", ""


def _repaired(path: Path, place: Path, target: Path) -> pl.Schema:
    """Write a copy in which each malformed record is a placeholder; return the schema of the others.

    Raises:
        SourceError: no line is a record.
    """
    shape = _Shape()
    for _, _, record, reason, _ in _records(place):
        if not reason:
            shape.add(record)
    if not shape.fields:
        kind = (kind_of(path) or "").lstrip(".")
        raise SourceError(f"{path}: cannot be read as {kind}: no line is a record, a JSON object with fields")
    with target.open("w", encoding="utf-8") as out:
        for number, text, record, wrong, because in _records(place):
            reason, why = wrong, because
            try:
                fitted = None if reason else shape.fitted(record)
            except _OtherTypeError as error:
                reason, why = "field_has_other_type", str(error)
            if reason:
                remedy = _REMEDIES[reason].format(why=why)
                fitted = {_MARK: [reason, malformed_text(number, text, remedy)]}
            out.write(json.dumps(fitted, ensure_ascii=False) + "\n")
    return pl.Schema({key: one.dtype() for key, one in shape.fields.items()} | {_MARK: pl.List(pl.String)})


def _read(path: Path, block: bytes, schema: pl.Schema, rows: int) -> Iterator[Piece]:
    try:
        read = pl.read_ndjson(block, schema=schema) if block.strip() else pl.DataFrame(schema=schema)
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{path}: a whole number must lie within 64 bits; one in this file does not. Write longer IDs as text"
        ) from error
    for frame in read.iter_slices(rows):
        if _MARK not in schema or frame[_MARK].null_count() == frame.height:
            yield Piece(frame.drop(_MARK, strict=False))
            continue
        marked = frame[_MARK].is_not_null()
        parts = frame[_MARK].filter(marked)
        found = {"nth": marked.arg_true(), "reason": parts.list.get(0), "raw": parts.list.get(1)}
        yield Piece(frame.drop(_MARK), pl.DataFrame(found, schema=MALFORMED))


def json_pieces(path: Path, size: Size) -> Iterator[Piece]:
    """Yield a file of JSON Lines in pieces, at least one.

    Raises:
        SourceError: there is no record.
        OSError, EOFError, zlib.error: the file cannot be read or decompressed.
    """
    with tempfile.TemporaryDirectory(prefix="shoplens-json-") as folder:
        with open_unpacked(path) as stream:
            start = stream.read(1 << 16)
        require_text(path, start)
        place = path
        if is_packed(path):
            place = Path(folder) / "text.jsonl"
            with place.open("wb") as out:
                out.writelines(blocks(path, size.bytes))
        schema = None if start.startswith(codecs.BOM_UTF8) else _uniform_schema(place)
        if schema is None:
            repaired = Path(folder) / "repaired.jsonl"
            schema, place = _repaired(path, place, repaired), repaired
        read = 0
        for block in blocks(place, size.bytes):
            for piece in _read(path, block, schema, size.rows):
                yield piece
                read += piece.frame.height
        if not read:
            raise SourceError(f"{path}: must hold one record per line; received none")
