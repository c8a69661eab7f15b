"""Promotions: in how many stores an item is announced for the coming days, as known at a given time.

A placement is a path such as `display > leaflet`, one part per kind of promotion. Each part gives one total, and one
count for each of its most frequent values: the front page sells more than the last one.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import FIRST_INDEX, Catalogue
from shoplens.errors import FeatureError

AHEAD = timedelta(days=7)  # length of the window after a moment
_SEPARATOR = " > "
_NOT_PLACED = ("0", "")  # how sources write that an item is not there; a shorter path has no such part
_UNNAMED = "unnamed"  # the place of a promotion without a placement: it is announced somewhere
_VALUES = 10  # of a part of the path, counted on their own
_SCHEMA = {
    "item_index": pl.Int32,
    "valid_from": pl.Int64,
    "valid_to": pl.Int64,
    "known_at": pl.Int64,
    "stores": pl.Int32,
}


def write_promotions(promotions: pl.DataFrame, catalogue: Catalogue, fit_until: datetime, path: Path) -> None:
    """Write the promotions of the catalogue's items, with times in microseconds and a column per kind of placement.

    Args:
        promotions: item_id, placement, valid_from, valid_to, known_at and stores.
        catalogue: Provides the item indexes; promotions of other items are left out.
        fit_until: The values counted on their own are the most frequent ones known before this time (UTC).
        path: The Parquet file.
    """
    index = pl.Series("item_index", catalogue.index_of(promotions["item_id"].to_list()))
    placement = pl.col("placement").fill_null(_UNNAMED)
    kept = promotions.with_columns(index, placement).filter(pl.col("item_index") >= FIRST_INDEX)
    columns = _columns(kept, fit_until)
    kept = kept.with_columns(pl.col("valid_from", "valid_to", "known_at").dt.epoch("us"))
    kept.select(*(pl.col(name).cast(kind) for name, kind in _SCHEMA.items()), *columns).write_parquet(path)


def _columns(promotions: pl.DataFrame, fit_until: datetime) -> list[pl.Series]:
    """Return for each kind of placement which promotions are of it: every part of the path, and its frequent values."""
    split = {one: one.split(_SEPARATOR) for one in promotions["placement"].unique()}
    seen = promotions.filter(pl.col("known_at") < fit_until).group_by("placement").agg(pl.col("stores").sum())
    columns = []
    for level in range(max((len(parts) for parts in split.values()), default=0)):
        value = {one: parts[level] if level < len(parts) else "" for one, parts in split.items()}
        of = promotions["placement"].replace_strict(value, return_dtype=pl.String)
        name = f"promoted_{level + 1}"
        columns.append((~of.is_in(_NOT_PLACED)).alias(name))
        count: Counter[str] = Counter()
        for one, stores in seen.iter_rows():
            if value[one] not in _NOT_PLACED:
                count[value[one]] += stores
        frequent = sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))[:_VALUES]
        columns += [(of == one).alias(f"{name}_{one}") for one, _ in frequent]
    return columns


@dataclass(frozen=True)
class Promotions:
    """Promotions that may overlap.

    Attributes:
        item: Catalogue index, (promotions,).
        times: Valid from, valid to and known at, microseconds (promotions, 3).
        stores: Number of stores, (promotions,).
        placed: Whether a promotion counts in a column, (promotions, columns).
        names: What the columns count.
    """

    item: NDArray[np.int64]
    times: NDArray[np.int64]
    stores: NDArray[np.float64]
    placed: NDArray[np.bool_]
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Promotions | None":
        """Read what `write_promotions` wrote; None if nothing was announced.

        Raises:
            FeatureError: the file is missing or unreadable.
        """
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise FeatureError(f"promotions {path}: cannot be read ({error}). Run the stage features") from error
        if frame.is_empty():
            return None
        names = tuple(name for name in frame.columns if name not in _SCHEMA)
        return cls(
            frame["item_index"].to_numpy().astype(np.int64),
            frame.select("valid_from", "valid_to", "known_at").to_numpy(),
            frame["stores"].to_numpy().astype(np.float64),
            frame.select(names).to_numpy(),
            names,
        )

    def ahead(self, moment: int, size: int) -> NDArray[np.float64]:
        """Return the number of stores that announce each item within `AHEAD` after a moment, (size, columns).

        Only promotions known before the moment count, each by its share of that time.

        Args:
            moment: Microseconds.
            size: Catalogue size.
        """
        length = AHEAD // timedelta(microseconds=1)
        begin, end, known = self.times.T
        share = (np.minimum(end, moment + length) - np.maximum(begin, moment)) / length
        now = np.flatnonzero((known < moment) & (share > 0))
        weight = self.stores[now] * share[now]
        columns = [np.bincount(self.item[now], weight * self.placed[now, k], size) for k in range(len(self.names))]
        return np.stack(columns, axis=1)
