"""Bots: programs that go through the catalogue, many pages per minute, without reading any."""

import numpy as np
import polars as pl

from simulator.calendar import DAY_MS, day_start
from simulator.clicks import as_rows
from simulator.draws import keys, numbered, poisson, uniform
from simulator.rows import CODE, PLATFORMS, VISIT, unique_ids
from simulator.visits import MOST_MEAN
from simulator.world import World

WALKS_A_DAY = 0.3  # per bot, on average
_SHORTEST, _LONGEST = 60, 239  # views a walk
MEAN_ROWS = (_SHORTEST + _LONGEST) / 2
_GAP_MS = (100, 600)  # milliseconds from view to view: some 170 a minute


def bots_of(world: World) -> int:
    """Return how many bots there are; they are numbered on from the people."""
    return round(world.plan.users * world.plan.bots)


def bot_rows(world: World, day: int) -> pl.DataFrame:
    """Return ROWS of the bots of a day: views without a dwell time, of articles in no order."""
    plan = world.plan
    bot = plan.users + np.arange(bots_of(world))
    mean = np.full(bot.size, min(WALKS_A_DAY * world.scale, MOST_MEAN))
    count = poisson(uniform(keys(plan.seed, "bot day", bot, day), 0), mean)
    of, number = numbered(count)
    who = bot[of]
    key = keys(plan.seed, "walk", who, day, number)
    size = _SHORTEST + (uniform(key, 0) * (_LONGEST + 1 - _SHORTEST)).astype(np.int64)
    start = day_start(plan.start, day) + (uniform(key, 1) * DAY_MS).astype(np.int64)
    walk, nth = numbered(size)
    own = keys(plan.seed, "step", who[walk], day, number[walk], nth)
    gap = _GAP_MS[0] + (uniform(own, 0) * (_GAP_MS[1] - _GAP_MS[0])).astype(np.int64)
    before = np.cumsum(gap) - gap
    on_sale = np.flatnonzero(world.catalogue.launch <= day)
    item = on_sale[(uniform(own, 1) * on_sale.size).astype(np.int64)]
    frame = pl.DataFrame(
        {
            "id": unique_ids(plan.seed, who[walk], day, number[walk], nth),
            "ts": start[walk] + before - before[nth == 0][walk] if walk.size else walk,
            "delay": np.zeros(walk.size, dtype=np.int64),
            "action": np.full(walk.size, CODE["product"]),
            "visitor": keys(plan.seed, "device", who[walk], 0),
            "platform": np.full(walk.size, PLATFORMS.index("web")),
            "visit": unique_ids(plan.seed, who[walk], day, number[walk], VISIT),
            "item": item,
            "price": world.campaigns.prices(world.campaigns.on(day), world.catalogue)[item],
            "page": "/p/" + world.catalogue.skus.gather(item),
        }
    )
    return as_rows([frame])
