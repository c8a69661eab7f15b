"""The catalogue: every item in the events or in the table of items, with an index and its known content.

Index 0 is padding or no item, 1 is an unknown item, and items start at 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shoplens.errors import FeatureError

PAD_INDEX = 0
UNKNOWN_INDEX = 1
FIRST_INDEX = 2
PRICE_BANDS = 10
COLUMNS = (
    "item_index",
    "item_id",
    "category_1",
    "category_2",
    "category_3",
    "brand",
    "title",
    "price_band",
    "category_1_code",
    "category_2_code",
    "category_3_code",
    "brand_code",
)


@dataclass(frozen=True)
class Catalogue:
    """Items by index. Rows of `frame` are sorted by `item_index`, which starts at 2 and has no gaps.

    Attributes:
        frame: item_index, item_id, category_1 (top level), category_2, category_3, brand, title, price_band (1 cheapest
            to 10, 0 unknown) and the integer codes category_1_code, category_2_code, category_3_code, brand_code (from
            1; 0 is missing).
    """

    frame: pl.DataFrame

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read `catalogue.parquet`.

        Raises:
            FeatureError: the file is missing, unreadable or lacks a column.
        """
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise FeatureError(f"catalogue {path}: cannot be read ({error}); run the stage `features`") from error
        missing = [name for name in COLUMNS if name not in frame.columns]
        if missing:
            raise FeatureError(f"catalogue {path}: must have the columns {', '.join(COLUMNS)}; lacks {missing}")
        return cls(frame.select(COLUMNS))

    @property
    def size(self) -> int:
        """Length of a vector indexed by `item_index`: the items and the two special indexes."""
        return self.frame.height + FIRST_INDEX

    @cached_property
    def _index(self) -> dict[str | None, int]:
        known: dict[str | None, int] = dict(zip(self._ids, range(FIRST_INDEX, self.size), strict=True))
        known[None] = known[""] = PAD_INDEX
        return known

    @cached_property
    def _ids(self) -> list[str]:
        return self.frame["item_id"].to_list()

    def index_of(self, item_ids: Iterable[str | None]) -> NDArray[np.int32]:
        """Return the index of every item ID: 0 for none (null or empty), 1 if unknown."""
        get = self._index.get
        return np.fromiter((get(item, UNKNOWN_INDEX) for item in item_ids), dtype=np.int32)

    def item_id(self, index: int) -> str:
        """Return the ID of an item.

        Raises:
            FeatureError: `index` is not the index of an item (0 and 1 are not).
        """
        if not FIRST_INDEX <= index < self.size:
            raise FeatureError(f"index: must be an item's index, {FIRST_INDEX} to {self.size - 1}; received {index}")
        return self._ids[index - FIRST_INDEX]


def _code(name: str) -> pl.Expr:
    """Number the sorted distinct values of a column from 1; missing values are 0."""
    return pl.col(name).rank("dense").fill_null(0).cast(pl.Int32).alias(f"{name}_code")


def _price_bands(price: NDArray[np.float64], fitted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return each item's decile among the prices of the `fitted` items, (items,); 0 without a price."""
    among = np.sort(price[fitted & ~np.isnan(price)])
    if len(among) == 0:
        return np.zeros(len(price), dtype=np.int32)
    band = np.minimum(np.searchsorted(among, price) * PRICE_BANDS // len(among) + 1, PRICE_BANDS)
    return np.where(np.isnan(price), 0, band).astype(np.int32)


def read_catalogue(events: Any, items: pl.DataFrame, fit_until: datetime) -> Catalogue:
    """Index every item of a log and of `items`, sorted by ID, and attach its content: a new product has no event yet.

    `price_band` is a decile among the prices of the items known before `fit_until`; later items are placed among those
    and move none of them. An item's price is its list price, or else the first that was seen, if that was before
    `fit_until` or with the item's first event: a later one would leak into rows that lie between.

    Args:
        events: A DuckDB relation of any size; only item IDs, first times and first prices are loaded into memory.
        items: The contract's table of items. It has no times: content counts as known from the start.
        fit_until: Only earlier knowledge decides the limits of the price bands (UTC).
    """
    known = "greatest(event_time, ingested_at)"
    priced = "FILTER (WHERE price IS NOT NULL)"
    seen: pl.DataFrame = (
        events.filter("item_id IS NOT NULL")
        .aggregate(
            f"item_id, min({known}) AS first_known, min({known}) {priced} AS first_priced, "
            f"arg_min(price, ({known}, event_time, event_id)) {priced} AS first_price",
            "item_id",
        )
        .pl()
        .with_columns(pl.col("first_known", "first_priced").dt.convert_time_zone("UTC"))
    )
    in_time = (pl.col("first_priced") < fit_until) | (pl.col("first_priced") == pl.col("first_known"))
    path = pl.col("category").str.split(" > ")
    content = items.unique("item_id", keep="first", maintain_order=True).select(
        "item_id",
        path.list.get(0, null_on_oob=True).alias("category_1"),
        path.list.get(1, null_on_oob=True).alias("category_2"),
        path.list.get(2, null_on_oob=True).alias("category_3"),
        "brand",
        "title",
        pl.col("price").alias("list_price"),
    )
    frame = (
        seen.join(content, on="item_id", how="full", coalesce=True)
        .sort("item_id")
        .with_row_index("item_index", FIRST_INDEX)
        .with_columns(
            pl.col("item_index").cast(pl.Int32),
            *(_code(name) for name in ("category_1", "category_2", "category_3", "brand")),
            pl.coalesce("list_price", pl.when(in_time).then("first_price")).cast(pl.Float64).alias("price"),
        )
    )
    fitted = (frame["first_known"] < fit_until).fill_null(value=False).to_numpy()
    bands = _price_bands(frame["price"].fill_null(float("nan")).to_numpy(), fitted)
    return Catalogue(frame.with_columns(pl.Series("price_band", bands)).select(COLUMNS))
