"""How the features of a table are distributed: exact numbers, from the rows of one snapshot, in bounded memory.

Numbers are read a group of columns at a time; texts are counted by DuckDB, which may write them to disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.engine.engines import quoted

BINS = 24
MOST_TEXTS = 8
_VALUES_AT_ONCE = 1 << 24  # numbers held at a time: 128 MiB, and as much while they are sorted
_MOMENT = "event_timestamp"


@dataclass(frozen=True)
class Numbers:
    """Numbers, or lengths of lists.

    Attributes:
        rows: Rows that were read.
        missing: Those without a value.
        quantiles: Percentiles 0, 1, 25, 50, 75, 99 and 100 of the others, each one of the values; empty: none.
        bounds: Where the bins begin and end: at percentiles 1 and 99, or where these are one value, at 0 and 100.
        bins: Values in each of `BINS` equal bins, those outside the bounds in the bins at the ends; one bin if all
            values are equal.
        lengths: Whether the values are lists, of which these are the lengths.
        different: Different elements of these lists, if the elements are IDs.
    """

    rows: int
    missing: int
    quantiles: Mapping[int, float]
    bounds: tuple[float, float]
    bins: tuple[int, ...]
    lengths: bool = False
    different: int | None = None


@dataclass(frozen=True)
class Texts:
    """Texts.

    Attributes:
        rows: Rows that were read.
        missing: Those without a value.
        different: Different texts.
        top: (text, rows) of the most frequent, among equals by the alphabet; None: the texts are not to be shown.
    """

    rows: int
    missing: int
    different: int
    top: tuple[tuple[str, int], ...] | None


@dataclass(frozen=True)
class TableDistribution:
    """The features of a table: the moment (None: all rows), the number of rows, and each feature's distribution."""

    moment: datetime | None
    rows: int
    features: Mapping[str, Numbers | Texts]


_PERCENTILES = (0, 1, 25, 50, 75, 99, 100)


def numbers(values: NDArray[Any], rows: int, *, lengths: bool = False, different: int | None = None) -> Numbers:
    """Return how values are distributed that are not missing in `rows` rows.

    Args:
        values: (n,), any order; infinite ones and NaN count as missing.
        rows: At least n.
        lengths: See `Numbers`.
        different: See `Numbers`.
    """
    ordered = np.sort(values[np.isfinite(values)].astype(np.float64))
    count = len(ordered)
    if count == 0:
        return Numbers(rows, rows, {}, (0.0, 0.0), (), lengths, different)
    # The q-th percentile is the smallest value that at least q percent of the values do not exceed.
    found = {q: float(ordered[max(-(-q * count // 100) - 1, 0)]) for q in _PERCENTILES}
    low, high = (found[1], found[99]) if found[1] < found[99] else (found[0], found[100])
    if low == high:
        bins: tuple[int, ...] = (count,)
    else:
        place = np.floor((np.clip(ordered, low, high) - low) / (high - low) * BINS).astype(np.int64)
        bins = tuple(np.bincount(np.minimum(place, BINS - 1), minlength=BINS).tolist())
    return Numbers(rows, rows - count, found, (low, high), bins, lengths, different)


def table_distribution(
    connection: Any, path: Path, units: Mapping[str, str], shown: frozenset[str], *, all_rows: bool
) -> TableDistribution:
    """Return how the features of a table are distributed.

    Args:
        connection: DuckDB's own.
        path: A Parquet file with a column `event_timestamp`.
        units: Feature -> unit; other columns are not read.
        shown: Features whose texts may be shown.
        all_rows: Of all rows; otherwise of those of the latest moment in the file.
    """
    kinds = {name: pq.read_schema(path).field(name).type for name in units}
    table = connection.read_parquet(str(path))
    moment = None
    if not all_rows:
        ((micros,),) = table.aggregate(f"max(epoch_us({_MOMENT}))").fetchall()
        if micros is not None:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
            table = table.filter(f"{_MOMENT} = make_timestamptz({micros})")
    texts = [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    ((rows, *filled),) = table.aggregate(", ".join(["count(*)", *(f"count({quoted(n)})" for n in texts)])).fetchall()
    ids = [name for name, kind in kinds.items() if _is_list(kind) and units[name] == "id"]
    different = {name: _count_distinct(table.project(f"unnest({quoted(name)}) AS one"), "one") for name in ids}
    found: dict[str, Numbers | Texts] = {}
    for name, count in zip(texts, filled, strict=True):
        top = _most_frequent(table, name) if name in shown else None
        found[name] = Texts(rows, rows - count, _count_distinct(table, name), top)
    for name, values in _read(table, {n: k for n, k in kinds.items() if n not in texts}, rows):
        found[name] = numbers(values, rows, lengths=_is_list(kinds[name]), different=different.get(name))
    return TableDistribution(moment, rows, {name: found[name] for name in units})


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _count_distinct(table: Any, name: str) -> int:
    ((count,),) = table.aggregate(f"count(DISTINCT {quoted(name)})").fetchall()
    return int(count)


def _most_frequent(table: Any, name: str) -> tuple[tuple[str, int], ...]:
    """Return (text, rows) of the most frequent texts."""
    column = quoted(name)
    counts = table.filter(f"{column} IS NOT NULL").aggregate(f"{column} AS text, count(*) AS rows", column)
    return tuple(counts.order("rows DESC, text").limit(MOST_TEXTS).fetchall())


def _read(table: Any, kinds: Mapping[str, pa.DataType], rows: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (feature, its numbers or the lengths of its lists, without missing ones), several columns per query."""
    left = iter(kinds)
    while names := list(islice(left, max(_VALUES_AT_ONCE // max(rows, 1), 1))):
        columns = [f"len({quoted(n)}) AS {quoted(n)}" if _is_list(kinds[n]) else quoted(n) for n in names]
        read = table.project(", ".join(columns)).to_arrow_table()
        for place, name in enumerate(names):
            yield name, read.column(place).drop_null().to_numpy()
