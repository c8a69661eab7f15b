"""Frames that follow each other, into one Parquet file: the bytes of the whole table, in the memory of a few frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

ROW_GROUP = 1 << 17


def _regrouped(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the rows in frames of one row group each: how a group is encoded depends on how its rows come."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        waiting.append(frame)
        rows += frame.height
        if rows >= ROW_GROUP:
            table = pl.concat(waiting)
            whole = rows // ROW_GROUP * ROW_GROUP
            for start in range(0, whole, ROW_GROUP):
                yield table.slice(start, ROW_GROUP).rechunk()
            waiting, rows = [table.slice(whole)], rows - whole
    if rows:
        yield pl.concat(waiting, rechunk=True)


def sink(frames: Iterator[pl.DataFrame], schema: dict[str, Any], target: Path) -> None:
    """Write frames of one schema, as they come, to a Parquet file."""
    problems: list[BaseException] = []

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from _regrouped(frames)
        except BaseException as error:  # told again below as what it is: Polars would wrap it
            problems.append(error)
            raise

    try:
        register_io_source(source, schema=schema).sink_parquet(target, row_group_size=ROW_GROUP, engine="streaming")
    except pl.exceptions.PolarsError:
        if problems:
            raise problems[0] from None
        raise
    if problems:
        raise problems[0]
