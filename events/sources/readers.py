"""Files to tables, in pieces that fit into memory: CSV, Parquet and JSON Lines."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from events.mapping import Csv
from events.sources.csv_files import csv_pieces
from events.sources.files import TEXT, Piece, Size, first_line, kind_of
from events.sources.json_lines import json_pieces
from shoplens.errors import SourceError

_DAMAGED = (pl.exceptions.PolarsError, pa.ArrowException, duckdb.Error)
_NO_OPTIONS = Csv()


def _cuts(groups: list[int], rows: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of pieces of at most `rows` rows: whole row groups, and parts of larger ones."""
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


def pieces(path: Path, dialect: Csv = _NO_OPTIONS, size: Size | None = None) -> Iterator[Piece]:
    """Yield a file in pieces, at least one. CSV columns are text: the mapping interprets them.

    Args:
        path: The file.
        dialect: How a CSV file is written.
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
            yield from json_pieces(path, size)
    except _DAMAGED as error:
        raise SourceError(
            f"{path}: cannot be read as {kind.lstrip('.')}: the file is cut off, damaged or of another kind than its "
            f"name states. Give the whole file"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read as {kind.lstrip('.')}: {first_line(error)}") from error


def read_table(path: Path, dialect: Csv = _NO_OPTIONS) -> pl.DataFrame:
    """Read one file into memory; a malformed row has no values.

    Raises:
        SourceError: the file cannot be read as the kind that its name states.
    """
    return pl.concat([piece.frame for piece in pieces(path, dialect)])
