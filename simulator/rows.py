"""Rows of the log before they are written: numbers where the log has text, so that they are cheap to sort and hold."""

from typing import Any

import polars as pl

ACTIONS = (
    "promo_shown",
    "promo_click",
    "page",
    "search",
    "click",
    "product",
    "basket_add",
    "basket_remove",
    "checkout",
    "order",
    "return",
    "review",
)
CODE = {name: place for place, name in enumerate(ACTIONS)}

ROWS: dict[str, Any] = {
    "id": pl.UInt64,
    "ts": pl.Int64,  # milliseconds since 1970
    "delay": pl.Int64,  # milliseconds until the shop's server has it
    "action": pl.UInt8,  # place in ACTIONS
    "user": pl.Int64,  # null before login, and of bots
    "visitor": pl.UInt64,  # the device; null in a store
    "platform": pl.UInt8,
    "visit": pl.UInt64,  # null in a store
    "item": pl.Int64,
    "qty": pl.Int64,
    "price": pl.Float64,
    "order_no": pl.UInt64,
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
ORDER = ("ts", "id")  # of rows in the log; ids are unique, so that ties have one order too
