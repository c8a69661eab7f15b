"""Who could visit: tastes, budgets, habits, the platforms they use, and a mood that drifts from day to day."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from simulator.catalogue import TASTES, Assortment
from simulator.draws import Floats, Ints, keys, logistic, normal, normals, pick, uniform
from simulator.plan import Plan
from simulator.rows import PLATFORMS

_TASTE = 2.0  # how far tastes are apart; the preferred category of most people has several times the average's chance
_ACTIVITY = 0.35  # visits per day of the median person
_ACTIVITY_SPREAD = 0.7
_USE = np.array([1.0, 0.5, 0.6, 0.4])  # a person's platforms are drawn with these weights
_KEPT = 0.35  # a person leaves platforms of a smaller share alone
_MEMORY = 0.9  # of mood from one day to the next: half is forgotten after a week
_JOINS_LATER = 0.3
_GENDERS = ("f", "m", "d")


@dataclass(frozen=True)
class People:
    """One row per person."""

    joined: Ints  # day of registration, from the first day; negative is before it, (users,)
    taste: Floats  # what a person likes, (users, TASTES)
    preference: npt.NDArray[np.float32]  # chance of each category in a visit, in an average season, (users, categories)
    budget: Floats  # log of the price over a category's median that a person is at ease with, (users,)
    activity: Floats  # visits per day, in an average season and mood, (users,)
    propensity: Floats  # added to the log-odds of a purchase, (users,)
    platforms: Floats  # share of each platform in a person's visits, (users, 4)
    extra: Floats  # chance of each of three more units in an order, (users,)


def dot(left: Floats, right: Floats) -> Floats:
    """Return the sum of products over the last axis, added up in one order whatever the number of rows.

    A matrix product may add in another order for another number of rows, and then differ in the last bit.
    """
    total = left[..., 0] * right[..., 0]
    for k in range(1, TASTES):
        total = total + left[..., k] * right[..., k]
    return np.asarray(total)


def _preference(taste: Floats, catalogue: Assortment) -> npt.NDArray[np.float32]:
    likes = np.stack([dot(taste, place) for place in catalogue.category_place], axis=1)
    chance = np.exp(likes - likes.max(axis=1, keepdims=True))
    return np.asarray(chance / chance.sum(axis=1, keepdims=True), dtype=np.float32)


def _platforms(seed: int, users: Ints) -> Floats:
    key = keys(seed, "platforms", users)
    weight = _USE * np.stack([-np.log1p(-uniform(key, lane)) for lane in range(len(PLATFORMS))], axis=1)
    weight = np.where(weight >= _KEPT * weight.max(axis=1, keepdims=True), weight, 0.0)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def build_people(plan: Plan, catalogue: Assortment) -> People:
    """Return the people of a simulation."""
    users = np.arange(plan.users)
    key = keys(plan.seed, "person", users)
    taste = _TASTE * normals(key, 20, TASTES)
    before = -1 - (uniform(key, 1) * 730).astype(np.int64)
    within = (uniform(key, 2) * plan.days).astype(np.int64)
    budget = 0.4 * normal(key, 3)
    return People(
        joined=np.where(uniform(key, 0) < _JOINS_LATER, within, before),
        taste=taste,
        preference=_preference(taste, catalogue),
        budget=budget,
        activity=_ACTIVITY * np.exp(_ACTIVITY_SPREAD * normal(key, 4)),
        propensity=0.6 * normal(key, 5),
        platforms=_platforms(plan.seed, users),
        extra=logistic(budget - 1.5),
    )


def next_mood(seed: int, day: int, mood: Floats | None, users: int) -> Floats:
    """Return the mood of all people on a day, given the day before: a stationary AR(1) of variance 1, (users,)."""
    news = normal(keys(seed, "mood", np.arange(users), day), 0)
    return news if mood is None else _MEMORY * mood + np.sqrt(1.0 - _MEMORY**2) * news


def users_table(plan: Plan, people: People) -> pl.DataFrame:
    """Return the shop's own table of customers: customer, member_since, sex, born, newsletter."""
    key = keys(plan.seed, "profile", np.arange(plan.users))
    since = pl.lit(plan.start) + pl.duration(days=pl.lit(pl.Series(people.joined)))
    sex = pick(uniform(key, 0), np.cumsum([0.52, 0.46, 0.02]))
    born = plan.start.year - 18 - (uniform(key, 1) * 62).astype(np.int64)
    silent = pl.lit(pl.Series(uniform(key, 2) < 0.2))  # one in five states nothing about themselves
    return pl.select(
        customers(np.arange(plan.users)).alias("customer"),
        since.cast(pl.Date).alias("member_since"),
        pl.when(~silent).then(pl.lit(pl.Series(_GENDERS).gather(sex))).alias("sex"),
        pl.when(~silent).then(pl.lit(pl.Series(born))).alias("born"),
        pl.lit(pl.Series(uniform(key, 3) < 0.4)).alias("newsletter"),
    )


def customers(users: Ints) -> pl.Series:
    """Return the ids of people."""
    return "u" + pl.Series("customer", users).cast(pl.String)
