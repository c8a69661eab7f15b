"""Rows as the shop's log writes them: everything that a person or a tracker could get wrong is text."""

from typing import Any

import polars as pl

from simulator.catalogue import Catalogue
from simulator.people import PLATFORMS
from simulator.rows import ACTIONS

LOG: dict[str, Any] = {
    "id": pl.String,
    "ts": pl.String,  # UTC
    "received_at": pl.String,
    "action": pl.String,
    "customer": pl.String,
    "visitor": pl.String,
    "channel": pl.String,
    "visit": pl.String,
    "sku": pl.String,
    "qty": pl.Int64,
    "unit_price": pl.String,  # EUR
    "order_no": pl.String,
    "search_text": pl.String,
    "shown": pl.String,
    "list": pl.String,
    "rank": pl.Int32,
    "page": pl.String,
    "seconds": pl.Float64,
    "stars": pl.Int64,
    "comment": pl.String,
    "promo": pl.String,
}
_AS_IT_IS = ("search_text", "shown", "list", "rank", "page", "seconds", "stars", "comment", "promo")
_CLOCK = "%Y-%m-%d %H:%M:%S%.3f"


def clock(milliseconds: pl.Expr) -> pl.Expr:
    """Return milliseconds since 1970 as the log writes a time."""
    return milliseconds.cast(pl.Datetime("ms")).dt.strftime(_CLOCK)


def log_of(rows: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return LOG of ROWS, in their order."""
    action, platform = pl.Series(ACTIONS).gather(rows["action"]), pl.Series(PLATFORMS).gather(rows["platform"])
    return rows.select(
        pl.col("id").cast(pl.String),
        clock(pl.col("ts")).alias("ts"),
        clock(pl.col("ts") + pl.col("delay")).alias("received_at"),
        pl.lit(action).alias("action"),
        ("u" + pl.col("user").cast(pl.String)).alias("customer"),
        ("d" + pl.col("visitor").cast(pl.String)).alias("visitor"),
        pl.lit(platform).alias("channel"),
        pl.col("visit").cast(pl.String),
        pl.lit(catalogue.skus.gather(rows["item"])).alias("sku"),
        "qty",
        pl.col("price").cast(pl.String).alias("unit_price"),
        pl.col("order_no").cast(pl.String),
        *_AS_IT_IS,
    )
