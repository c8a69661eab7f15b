"""What follows an order, days later: returns and reviews."""

import numpy as np
import polars as pl

from simulator.calendar import DAY_MS
from simulator.choices import PAGES, PLACES, Choices, Shop
from simulator.clicks import as_rows
from simulator.draws import Floats, Ints, Keys, again, normal, uniform
from simulator.ids import AFTER, ORDER, pack
from simulator.rows import CODE
from simulator.visits import Visits
from simulator.world import World

RETURNS, REVIEWS = 0.05, 0.12  # of order lines
_RETURN_DAYS, _REVIEW_DAYS = (2, 14), (3, 21)
_STARS, _STARS_SPREAD = 3.6, 1.1
_COMMENTS = [
    "Broken on arrival.",
    "Not what I hoped for.",
    "It is all right.",
    "Good, would buy again.",
    "Exactly right!",
]


def _wait(draw: Floats, days: tuple[int, int]) -> Ints:
    low, high = days
    return ((low + (high - low) * draw) * DAY_MS).astype(np.int64)


def _rows(world: World, visits: Visits, at: tuple[Ints, ...], first: int, wait: Ints) -> dict[str, Ints | Keys]:
    """Return what every late row says: of the order lines at `at`, `wait` milliseconds after the visit."""
    visit, place = at
    user, number = visits.user[visit], visits.number[visit]
    return {
        "id": pack(world.plan.seed, user, visits.day, number, first + place),
        "ts": visits.start[visit] + wait,
        "delay": np.zeros(user.size, dtype=np.int64),
        "user": user,
        "platform": visits.platform[visit],
    }


def later_rows(world: World, shop: Shop, visits: Visits, choices: Choices) -> pl.DataFrame:
    """Return ROWS of the returns and reviews of the orders of a day."""
    places = np.arange(PAGES * PLACES, dtype=np.uint64)
    key = again(again(visits.key, "later")[:, None] + places, "places")  # (visits, places)
    bought = choices.units > 0
    back = np.nonzero(bought & (uniform(key, 0) < RETURNS))
    told = np.nonzero(bought & (uniform(key, 1) < REVIEWS))
    returned, reviewed = choices.item[back], choices.item[told]
    stars = np.clip(np.rint(_STARS + _STARS_SPREAD * normal(key[told], 2)), 1, 5).astype(np.int64)
    returns = {
        **_rows(world, visits, back, AFTER, _wait(uniform(key[back], 3), _RETURN_DAYS)),
        "action": np.full(returned.size, CODE["return"]),
        "item": returned,
        "qty": choices.units[back],
        "price": shop.price[returned],
        "order_no": pack(world.plan.seed, visits.user[back[0]], visits.day, visits.number[back[0]], ORDER),
    }
    reviews = {
        **_rows(world, visits, told, AFTER + places.size, _wait(uniform(key[told], 4), _REVIEW_DAYS)),
        "action": np.full(reviewed.size, CODE["review"]),
        "item": reviewed,
        "stars": stars,
        "comment": pl.Series(_COMMENTS).gather(stars - 1),
    }
    return as_rows([pl.DataFrame(returns), pl.DataFrame(reviews)])
