"""Campaigns: for some days one category is cheaper, and some people are notified."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from simulator.calendar import DAY_MS, day_start
from simulator.catalogue import LEAVES, Assortment
from simulator.draws import Flags, Floats, Ints, keys, uniform
from simulator.people import People
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
    everybody, number = np.arange(plan.users), np.arange(campaigns.start.size)
    notified = [np.flatnonzero(campaigns.exposed(n, everybody, people.joined)) for n in number.tolist()]
    first = day_start(plan.start, 0)
    about = pl.DataFrame(
        {
            "promo": "c" + pl.Series(number).cast(pl.String),
            "title": [
                f"{round(discount * 100)}% off {LEAVES[category]}"
                for discount, category in zip(campaigns.discount, campaigns.category, strict=True)
            ],
            "discount": campaigns.discount,
            "from_day": first + campaigns.start * DAY_MS,
            "to_day": first + campaigns.end * DAY_MS,
            "customer": pl.Series(notified, dtype=pl.List(pl.Int64)),
        }
    )
    return about.explode("customer").select(
        ("u" + pl.col("customer").cast(pl.String)).alias("customer"),
        "promo",
        pl.col("title").cast(pl.String),
        "discount",
        pl.col("from_day", "to_day").cast(pl.Datetime("ms")),
    )
