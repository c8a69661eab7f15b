"""What a source says beyond the contract: lists of key and value, of the columns that nobody mapped."""

import numpy as np
import polars as pl
import pyarrow as pa

from events.contract import ATTRIBUTES
from events.values import text


def attributes(frame: pl.DataFrame, names: list[str]) -> pl.Series:
    """Return ATTRIBUTES of every row: the columns `names` as text, by name, without those that hold nothing.

    By name, as the collector has them: an event that comes both in a file and live is one content.
    """
    if not names or frame.is_empty():
        return pl.select(pl.repeat(pl.lit([], dtype=ATTRIBUTES), frame.height).alias("attributes")).to_series()
    names = sorted(names)
    texts = frame.select(text(frame, name).alias(str(n)) for n, name in enumerate(names))
    held = np.column_stack([column.is_not_null().to_numpy() for column in texts])  # (rows, names)
    # Lists out of their offsets and values: Polars' own concat_list of records takes ten times as long.
    values = texts.select(pl.concat_list(pl.all()).alias("value")).explode("value", empty_as_null=False).to_series()
    keys = pl.Series("key", names)[np.tile(np.arange(len(names)), frame.height)[held.ravel()]]
    pairs = pl.DataFrame({"key": keys, "value": values.filter(pl.Series(held.ravel()))}).to_struct("pair")
    offsets = np.concatenate([[0], held.sum(axis=1).cumsum()])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pairs.to_arrow())
    return pl.Series("attributes", lists, dtype=ATTRIBUTES)
