"""Tables of a lake as immutable files: one file, or runs to which every append adds one.

Runs of like size are merged when there are eight of them, so that a lake of a million appends has a few dozen, and a
row is rewritten once each time the lake grows eightfold. Merging streams: its memory does not grow with the runs.
"""

import io
import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from events.lake.manifest import File
from events.lake.store import Store
from events.sources.files import first_line
from shoplens.errors import SourceError

ROW_GROUP = 1 << 17
FAN = 8


def _unreadable(store: Store, path: str, error: BaseException) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"{store.name}/{path}: no such file: the lake was tidied while it was read, or the file was taken away. "
            f"Run it again, or restore it"
        )
    return SourceError(f"{store.name}/{path}: cannot be read as parquet: {first_line(error)}. Restore it")


def aligned(frame: pl.DataFrame, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Return the columns of a schema; those that a file of an older contract lacks are empty."""
    return frame.select(
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in schema.items()
    )


def read_file(store: Store, file: File, columns: list[str] | None = None) -> pl.DataFrame:
    """Read one file.

    Raises:
        SourceError: it is not there, or no Parquet file.
    """
    try:
        content = store.read(file.path)
        return pl.read_parquet(io.BytesIO(content), columns=columns, glob=False, hive_partitioning=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(store, file.path, error) from error


def new_path(folder: str) -> str:
    """Return a path that no other writer will ever use."""
    return f"{folder}/{uuid.uuid4().hex}.parquet"


def write_file(store: Store, folder: str, frame: pl.DataFrame) -> File:
    """Write one file under a new name."""
    path, buffer = new_path(folder), io.BytesIO()
    frame.write_parquet(buffer, row_group_size=ROW_GROUP)
    content = buffer.getvalue()
    store.write(path, content)
    return File(path=path, rows=frame.height, bytes=len(content))


def row_groups(store: Store, file: File, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """Read one file, a row group at a time.

    Raises:
        SourceError: it is not there, or no Parquet file.
    """
    try:
        with store.local(file.path) as place, pq.ParquetFile(place) as source:
            for number in range(source.num_row_groups):
                yield _as_frame(source.read_row_group(number, columns=columns))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(store, file.path, error) from error


def _as_frame(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"a table must become a frame; received {type(frame).__name__}")
    return frame


class GroupedWriter:
    """Rows as they come, into a Parquet file of row groups of one size: the same rows give the same bytes."""

    def __init__(self, place: Any, schema: Mapping[str, Any], group: int = ROW_GROUP, sort: str | None = None) -> None:
        self._schema, self._group, self._sort = schema, group, sort
        self._kept = pl.DataFrame(schema=schema)
        self._writer = pq.ParquetWriter(place, self._kept.to_arrow().schema, compression="zstd")
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Add the rows of a frame of the schema."""
        self._kept = pl.concat([self._kept, frame.select(list(self._schema))])
        whole = self._kept.height // self._group * self._group
        for start in range(0, whole, self._group):
            self._write(self._kept.slice(start, self._group))
        self._kept = self._kept.slice(whole)

    def _write(self, frame: pl.DataFrame) -> None:
        ordered = frame if self._sort is None else frame.sort(self._sort)
        self._writer.write_table(ordered.rechunk().to_arrow(), row_group_size=self._group)
        self.rows += frame.height

    def close(self) -> None:
        """Write what is left and end the file."""
        if self._kept.height:
            self._write(self._kept)
        self._writer.close()


def _tier(file: File) -> int:
    return int(math.log(max(file.rows, 1), FAN))


def due(files: tuple[File, ...]) -> tuple[File, ...]:
    """Return the runs to be merged into one: those of the smallest size of which there are eight; else none."""
    tiers: dict[int, list[File]] = {}
    for file in files:
        tiers.setdefault(_tier(file), []).append(file)
    full = sorted(tier for tier, those in tiers.items() if len(those) >= FAN)
    return tuple(tiers[full[0]]) if full else ()


def merged(
    store: Store,
    files: tuple[File, ...],
    folder: str,
    schema: Mapping[str, Any],
    *,
    group: int = ROW_GROUP,
    sort: str | None = None,
) -> tuple[File, ...]:
    """Return the runs with those that are due merged into one."""
    old = due(files)
    if not old:
        return files
    path = new_path(folder)
    with store.new(path) as place:
        writer = GroupedWriter(place, schema, group, sort)
        for file in old:
            for frame in row_groups(store, file):
                writer.add(aligned(frame, schema))
        writer.close()
        size = place.stat().st_size
    left = tuple(file for file in files if file not in old)
    return (*left, File(path=path, rows=writer.rows, bytes=size))
