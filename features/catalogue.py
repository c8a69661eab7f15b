"""The catalogue: every item in the events or in the table of items, with an index and its known content.

Index 0 is padding or no item, 1 is an unknown item, and items start at 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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


def _price_band(price: str) -> pl.Expr:
    """Return the price decile of each item, from 1 (cheapest); 0 if no price is known."""
    place = pl.col(price).rank("min") - 1
    return (place * PRICE_BANDS // pl.col(price).count() + 1).fill_null(0).cast(pl.Int32).alias("price_band")


def read_catalogue(events: Any, items: pl.DataFrame) -> Catalogue:
    """Index every item of a log and of `items`, sorted by ID, and attach its content: a new product has no event yet.

    `price_band` uses the item's list price, or else the first price seen: an average over the whole log would leak
    later prices into training rows.

    Args:
        events: A DuckDB relation of any size; only item IDs and first prices are loaded into memory.
        items: The contract's table of items.
    """
    first_price = "arg_min(price, (event_time, event_id)) FILTER (WHERE price IS NOT NULL) AS first_price"
    seen: pl.DataFrame = events.filter("item_id IS NOT NULL").aggregate(f"item_id, {first_price}", "item_id").pl()
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
            pl.col("item_index").cast(pl.Int32), pl.coalesce("list_price", "first_price").cast(pl.Float64).alias("_p")
        )
        .with_columns(_price_band("_p"), *(_code(name) for name in ("category_1", "category_2", "category_3", "brand")))
    )
    return Catalogue(frame.select(COLUMNS))
