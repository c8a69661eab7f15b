"""Readers of public sequence files: `user item [time]` text, and JSON Lines of item lists."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import SourceError
from training.data.sequences import Sequences

_SEPARATORS = ("\t", " ", ",")


def _opened(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read_interactions(path: Path) -> Sequences:
    """Read text with one event per line, `user item` or `user item unix_seconds`, separated by a space, tab or comma.

    A user's events need not be adjacent. With times they are sorted by time; equal times, and files without times, keep
    the order of the file. Users and items are numbered in the order in which they first appear.

    Raises:
        SourceError: the file is missing, empty or has another number of columns.
    """
    import polars as pl

    try:
        with _opened(path) as stream:
            first = stream.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    separator = next((mark for mark in _SEPARATORS if mark in first), " ")
    width = len(first.split(separator))
    if width not in (2, 3):
        raise SourceError(
            f"{path}: each line must be `user item` or `user item time`; the first has {width} columns: {first[:80]!r}"
        )
    names = ["user", "item", "time"][:width]
    try:
        events = pl.read_csv(path, separator=separator, has_header=False, new_columns=names, infer_schema=False)
        if width == 3:
            events = events.with_columns(pl.col("time").cast(pl.Float64).cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path}: must have {width} columns in every line, times as numbers ({error})") from error
    users = events.select("user").unique(maintain_order=True).with_row_index("row")
    items = events.select("item").unique(maintain_order=True).with_row_index("index", offset=1)
    events = events.join(users, on="user", how="left", maintain_order="left")
    events = events.join(items, on="item", how="left", maintain_order="left")
    events = events.sort(["row", "time"][: width - 1], maintain_order=True)
    lengths = np.bincount(events["row"].to_numpy(), minlength=users.height)
    return Sequences(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        events["index"].to_numpy().astype(np.int32),
        events["time"].to_numpy() if width == 3 else None,
        items.height,
        items["item"].to_numpy().astype(str),
    )


def _lists(path: Path) -> Iterator[list[Any]]:
    with _opened(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{path}, line {number}: must be JSON ({error}); received {line[:80]!r}") from error
            if isinstance(found, dict):
                found = found.get("items")
            if not isinstance(found, list):
                raise SourceError(
                    f'{path}, line {number}: must be a list of items, or an object with "items"; received {line[:80]!r}'
                )
            yield found


def read_item_lists(path: Path, known: NDArray[Any] | None = None) -> Sequences:
    """Read JSON Lines with one session per line: a list of items, or an object whose "items" is one.

    Args:
        path: The file, also .gz. Its order is kept.
        known: Names of the items to number first, in this order: those of the training file when this is its test file.

    Raises:
        SourceError: the file is missing or empty, or a line is not a list.
    """
    index = {str(name): k for k, name in enumerate(known if known is not None else (), 1)}
    lengths, flat = [0], list[int]()
    try:
        for items in _lists(path):
            flat.extend(index.setdefault(str(item), len(index) + 1) for item in items)
            lengths.append(len(items))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    if not flat:
        raise SourceError(f"{path}: must have at least one session; received an empty file")
    return Sequences(
        np.cumsum(lengths, dtype=np.int64), np.array(flat, np.int32), None, len(index), np.array(list(index))
    )
