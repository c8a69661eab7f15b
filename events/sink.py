"""Frames that follow each other, into one Parquet file: the bytes of the whole table, in the memory of a few frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

ROW_GROUP = 1 << 17


def sink(frames: Iterator[pl.DataFrame], schema: dict[str, Any], target: Path) -> None:
    """Write frames of one schema, as they come, to a Parquet file."""
    problems: list[BaseException] = []

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from (frame for frame in frames if frame.height)
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
