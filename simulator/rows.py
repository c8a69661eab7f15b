"""Rows of the log before they are written: numbers where the log has text, so that they are cheap to sort and hold.

IDs never repeat and reveal nothing: user, day, visit and place in it, packed into 64 bits and scrambled.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from simulator.draws import Keys, mix, word

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
SORTED_BY = ("ts", "id")  # of rows in the log; ids are unique, so that ties have one order too


_PLACE, _VISIT, _DAY = 12, 6, 14  # bits; 32 are left for the user
AFTER = 1 << 11  # places of what comes days after the visit
ORDER, VISIT = (1 << _PLACE) - 1, (1 << _PLACE) - 2
MOST_VISITS = (1 << _VISIT) - 1  # of one user on one day


def unique_ids(seed: int, user: npt.ArrayLike, day: int, visit: npt.ArrayLike, place: npt.ArrayLike) -> Keys:
    """Return one ID per element; no two of one simulation are the same, because every step is one to one."""
    packed = np.asarray(user).astype(np.uint64) << np.uint64(_PLACE + _VISIT + _DAY)
    packed = packed | np.uint64(day << (_PLACE + _VISIT))
    packed = packed | (np.asarray(visit).astype(np.uint64) << np.uint64(_PLACE))
    return mix((packed | np.asarray(place).astype(np.uint64)) ^ word(seed, "id"))
