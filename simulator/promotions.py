"""Campaigns: for some days one category is cheaper, and some people are notified."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from simulator.calendar import DAY_MS, day_start
from simulator.catalogue import LEAVES, Assortment
from simulator.draws import Flags, Floats, Ints, keys, uniform
from simulator.people import People, customers
from simulator.plan import Plan

_EVERY = 14  # days from one campaign to the next; the longest lasts 10, so that there is at most one at a time
_FIRST = 2
_EXPOSED = 0.25
NONE = -1


@dataclass(frozen=True)
class Campaigns:
    """One row a campaign."""

    seed: int  # of the simulation
    start: Ints  # first day, (campaigns,)
    end: Ints  # the day after the last, (campaigns,)
    category: Ints  # what is cheaper, (campaigns,)
    discount: Floats  # share of the price that is taken off, (campaigns,)

    def on(self, day: int) -> int:
        """Return the campaign of a day, or NONE."""
        found = np.flatnonzero((self.start <= day) & (day < self.end))
        return int(found[0]) if found.size else NONE

    def exposed(self, campaign: int, users: Ints, joined: Ints) -> Flags:
        """Return who is notified of a campaign: a part of those who were registered when it began."""
        if campaign == NONE:
            return np.zeros(users.shape, dtype=np.bool_)
        drawn = uniform(keys(self.seed, "exposed", users, campaign), 0) < _EXPOSED
        return np.asarray(drawn & (joined <= self.start[campaign]))

    def prices(self, campaign: int, catalogue: Assortment) -> Floats:
        """Return the prices of all articles, in EUR, to the cent, while a campaign is on: (items,)."""
        if campaign == NONE:
            return catalogue.price.round(2)
        cheaper = catalogue.category == self.category[campaign]
        return np.where(cheaper, catalogue.price * (1.0 - self.discount[campaign]), catalogue.price).round(2)


def build_campaigns(plan: Plan, catalogue: Assortment) -> Campaigns:
    """Return the campaigns of a simulation: one a fortnight."""
    start = np.arange(_FIRST, plan.days, _EVERY)
    key = keys(plan.seed, "campaign", np.arange(start.size))
    return Campaigns(
        seed=plan.seed,
        start=start,
        end=start + 5 + (uniform(key, 0) * 6).astype(np.int64),
        category=(uniform(key, 1) * len(catalogue.category_place)).astype(np.int64),
        discount=0.1 + 0.1 * np.floor(uniform(key, 2) * 4),
    )


def campaign_id(campaign: int) -> str | None:
    """Return the id of a campaign; None for NONE."""
    return None if campaign == NONE else f"c{campaign}"


def campaigns_table(plan: Plan, campaigns: Campaigns, people: People) -> pl.DataFrame:
    """Return the shop's table of notifications: promo, customer, title, discount, from_day, to_day."""
    first = day_start(plan.start, 0)
    parts = []
    for n in range(campaigns.start.size):
        notified = np.flatnonzero(campaigns.exposed(n, np.arange(plan.users), people.joined))
        title = f"{round(campaigns.discount[n] * 100)}% off {LEAVES[campaigns.category[n]]}"
        parts.append(
            pl.select(customers(notified).alias("customer")).with_columns(
                pl.lit(campaign_id(n)).alias("promo"),
                pl.lit(title).alias("title"),
                pl.lit(campaigns.discount[n]).alias("discount"),
                pl.lit(first + campaigns.start[n] * DAY_MS).cast(pl.Datetime("ms")).alias("from_day"),
                pl.lit(first + campaigns.end[n] * DAY_MS).cast(pl.Datetime("ms")).alias("to_day"),
            )
        )
    schema: dict[str, Any] = {
        "customer": pl.String,
        "promo": pl.String,
        "title": pl.String,
        "discount": pl.Float64,
        "from_day": pl.Datetime("ms"),
        "to_day": pl.Datetime("ms"),
    }
    return pl.concat([pl.DataFrame(schema=schema), *parts])
