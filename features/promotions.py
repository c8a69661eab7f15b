"""Promotions: in how many stores an item is announced for the coming days, as far as was known at a time.

A placement is a path such as `display > leaflet`, one part per kind of promotion. Each part is counted in all, and its
most frequent values on their own: the front page sells more than the last one.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import FIRST_INDEX, Catalogue
from shoplens.errors import FeatureError

AHEAD = timedelta(days=7)  # the days that are looked at
_SEPARATOR = " > "
_NOT_PLACED = ("0", "")  # how sources write that an item is not there; a shorter path has no such part
_UNNAMED = "unnamed"  # the place of a promotion without a placement: it is announced somewhere
_VALUES = 10  # of a part of the path, counted on their own
_SCHEMA = {
    "item_index": pl.Int32,
    "placement": pl.String,
    "valid_from": pl.Int64,
    "valid_to": pl.Int64,
    "known_at": pl.Int64,
    "stores": pl.Int32,
}


def write_promotions(promotions: pl.DataFrame, catalogue: Catalogue, path: Path) -> None:
    """Write the promotions of the catalogue's items, with times in microseconds.

    Args:
        promotions: item_id, placement, valid_from, valid_to, known_at and stores.
        catalogue: Provides the item indexes; promotions of other items are left out.
        path: The Parquet file.
    """
    index = pl.Series("item_index", catalogue.index_of(promotions["item_id"].to_list()))
    times = pl.col("valid_from", "valid_to", "known_at").dt.epoch("us")
    kept = promotions.with_columns(index, times).filter(pl.col("item_index") >= FIRST_INDEX)
    kept.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items()).write_parquet(path)


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
    def read(cls, path: Path, first: np.datetime64) -> "Promotions | None":
        """Read what `write_promotions` wrote; None if nothing was announced.

        Args:
            path: The file.
            first: The values counted on their own are the most frequent ones known before this time.

        Raises:
            FeatureError: the file is missing or unreadable.
        """
        try:
            frame = pl.read_parquet(path).with_columns(pl.col("placement").fill_null(_UNNAMED))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise FeatureError(f"promotions {path}: cannot be read ({error}). Run the stage features") from error
        if frame.is_empty():
            return None
        early = frame.filter(pl.col("known_at") < int(first.astype("datetime64[us]").astype(np.int64)))
        names, masks = [], []
        split = {one: one.split(_SEPARATOR) for one in frame["placement"].unique()}
        seen = early.group_by("placement").agg(pl.col("stores").sum())
        for level in range(max(len(parts) for parts in split.values())):
            value = {one: parts[level] if level < len(parts) else "" for one, parts in split.items()}
            of = frame["placement"].replace_strict(value, return_dtype=pl.String)
            names.append(f"promoted_{level + 1}")
            masks.append(~of.is_in(_NOT_PLACED).to_numpy())
            count: Counter[str] = Counter()
            for one, stores in seen.iter_rows():
                if value[one] not in _NOT_PLACED:
                    count[value[one]] += stores
            for one, _ in sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))[:_VALUES]:
                names.append(f"promoted_{level + 1}_{one}")
                masks.append((of == one).to_numpy())
        return cls(
            frame["item_index"].to_numpy().astype(np.int64),
            frame.select("valid_from", "valid_to", "known_at").to_numpy(),
            frame["stores"].to_numpy().astype(np.float64),
            np.stack(masks, axis=1),
            tuple(names),
        )

    def ahead(self, moment: int, size: int) -> NDArray[np.float64]:
        """Return the stores that announce each item for the time `AHEAD` of a moment, (size, columns).

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
