"""Files in pieces that fit into memory, however large the file is.

Every piece of a file has the same columns of the same types, those of the whole file. CSV columns are text; Parquet
says its types itself; of JSON Lines they are found in a pass of their own, by Polars' own rules.
"""

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from events.blocks import blocks
from events.kinds import TEXT, first_line, kind_of
from shoplens.errors import SourceError

_HEAD = 65_536
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
UNREADABLE = (OSError, EOFError, zlib.error, pl.exceptions.PolarsError, UnicodeDecodeError, pa.ArrowException)


@dataclass(frozen=True)
class Size:
    """How much is read at a time: at most so many rows, of at most about so many bytes."""

    rows: int = 1 << 18
    bytes: int = 1 << 25


@dataclass(frozen=True)
class Piece:
    """Rows of a file that follow each other.

    Attributes:
        frame: The file's columns.
        short: Which rows of a CSV file have fewer columns than its header; None where none has.
    """

    frame: pl.DataFrame
    short: pl.Series | None = None


def _require_text(path: Path, start: bytes) -> None:
    """Raise a SourceError where a file begins as no UTF-8 text does: in UTF-16, or with NUL bytes."""
    if start.startswith(UTF_16) or b"\0" in start[:_HEAD].partition(b"\n")[0]:
        raise SourceError(
            f"{path}: must be UTF-8 text; its first line holds NUL bytes, as UTF-16 does. Convert it, for example with "
            f"`iconv -f UTF-16 -t UTF-8`"
        )


def _require_whole(path: Path, top: bytes, block: bytes, separator: bytes) -> None:
    """Raise a SourceError where a CSV file ends in the middle of a row: without a line end, and with fewer columns."""
    if not block or block.endswith((b"\n", b"\r")):
        return
    last = block.rpartition(b"\n")[2]
    # Quotes may hold separators and line ends: only a plain last line is judged.
    if b'"' not in last + top and last.count(separator) < top.count(separator):
        raise SourceError(
            f"{path}: must end with a whole row; its last line has {last.count(separator) + 1} of "
            f"{top.count(separator) + 1} columns and no line end: the file was cut off. Bring the whole file, or take "
            f"the last line out"
        )


def _split_header(block: bytes) -> tuple[bytes, bytes]:
    """Return the lines up to the end of the first row that is not empty, and what follows."""
    start = len(block) - len(block.lstrip(b"\r\n"))
    end = block.find(b"\n", start)
    while end >= 0 and block.count(b'"', 0, end) % 2:
        end = block.find(b"\n", end + 1)
    return (block[: end + 1], block[end + 1 :]) if end >= 0 else (block, b"")


def _header_line(path: Path, header: tuple[str, ...], first: bytes, separator: str) -> bytes:
    width = pl.read_csv(first, infer_schema=False, separator=separator, has_header=False).width
    if width != len(header):
        raise SourceError(
            f"{path}: csv.header: must name every column: it names {len(header)}, the file has {width}. "
            f"Correct the mapping"
        )
    names = ['"' + name.replace('"', '""') + '"' for name in header]
    return (separator.join(names) + "\n").encode()


def _short(block: bytes, separator: bytes, width: int, height: int) -> pl.Series | None:
    """Say which rows have fewer columns than the header; Polars fills them up and does not say."""
    if b'"' not in block and block.count(separator) == (width - 1) * height:
        return None
    data = np.frombuffer(block, dtype=np.uint8)
    outside = ~np.bitwise_xor.accumulate(data == ord('"'))
    ends = np.flatnonzero((data == ord("\n")) & outside)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(data))
    marks = np.flatnonzero((data == separator[0]) & outside)
    short = np.diff(np.searchsorted(marks, ends), prepend=0) < width - 1
    return pl.Series("short", short) if short.any() and len(short) == height else None


def _csv(path: Path, separator: str, header: tuple[str, ...], size: Size) -> Iterator[Piece]:
    found = blocks(path, size.bytes, quoted=True)
    first = next(found, b"")
    _require_text(path, first)
    top, first = (_header_line(path, header, first, separator), first) if header else _split_header(first)
    mark = separator.encode()
    for block in chain([first], found):
        _require_whole(path, top, block, mark)
        frame = pl.read_csv(top + block, infer_schema=False, separator=separator)
        yield Piece(frame, _short(block, mark, frame.width, frame.height))


def _example(kind: Any) -> Any:
    """Return a value of JSON whose type Polars takes for `kind`."""
    if isinstance(kind, pl.Struct):
        return {field.name: _example(field.dtype) for field in kind.fields}
    if isinstance(kind, pl.List):
        return [_example(kind.inner)]
    return {pl.Boolean: True, pl.Null: None, pl.String: "x"}.get(
        kind.base_type(), 1 if kind.is_integer() else 1.5 if kind.is_float() else "x"
    )


def _json_schema(found: Iterator[bytes]) -> pl.Schema:
    """Return the types of a file of JSON Lines: those that Polars finds in examples of what it finds in every block."""

    def types(lines: bytes) -> pl.Schema:
        return pl.scan_ndjson(io.BytesIO(lines), infer_schema_length=None).collect_schema()

    examples = [json.dumps(_example(pl.Struct(types(block)))) for block in found if block.strip()]
    return types("\n".join(examples).encode())


def _json(path: Path, size: Size) -> Iterator[Piece]:
    found = blocks(path, size.bytes, quoted=False)
    first = next(found, b"")
    _require_text(path, first)
    second = next(found, None)
    if second is None:
        yield Piece(pl.read_ndjson(first, infer_schema_length=None))
        return
    schema = _json_schema(blocks(path, size.bytes, quoted=False))
    for block in chain([first, second], found):
        if block.strip():
            yield Piece(pl.read_ndjson(block, schema=schema))


def _cuts(groups: list[int], rows: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of pieces of at most `rows` rows: whole row groups, and parts of those that are larger."""
    start = length = 0
    for group in groups:
        if length and length + group > rows:
            yield start, length
            start, length = start + length, 0
        length += group
        while length > rows:
            yield start, rows
            start, length = start + rows, length - rows
    if length or not start:
        yield start, length


def _parquet(path: Path, size: Size) -> Iterator[Piece]:
    scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    scan.collect_schema()
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        rows = [group.num_rows for group in groups]
        a_row = sum(group.total_byte_size for group in groups) // max(1, sum(rows)) + 1
    for start, length in _cuts(rows, min(size.rows, max(1, 4 * size.bytes // a_row))):
        yield Piece(scan.slice(start, length).collect())


def pieces(path: Path, separator: str = ",", header: tuple[str, ...] = (), size: Size | None = None) -> Iterator[Piece]:
    """Yield a file in pieces, at least one.

    Args:
        path: The file.
        separator: What stands between the columns of a CSV file.
        header: Names of the columns of a CSV file that has no line of them.
        size: Of a piece.

    Raises:
        SourceError: the file cannot be read as what its name says, a row of it is too long, or it has another number
            of columns than `header`.
    """
    kind, size = kind_of(path) or "", size or Size()
    try:
        if kind == ".parquet":
            yield from _parquet(path, size)
        elif kind in TEXT:
            yield from _csv(path, separator, header, size)
        else:
            yield from _json(path, size)
    except UNREADABLE as error:
        raise SourceError(f"{path}: cannot be read as {kind.lstrip('.')}: {first_line(error)}") from error
