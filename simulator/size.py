"""How busy people must be for a log of about the size that was asked for."""

from dataclasses import replace

import numpy as np
import polars as pl

from shoplens.errors import SettingsError
from simulator.bots import MEAN_ROWS, WALKS_A_DAY, bots_of
from simulator.calendar import day_start, traffic
from simulator.choices import choose, open_shop
from simulator.clicks import later_rows, visit_rows
from simulator.people import next_mood
from simulator.visits import MOST_MEAN, user_days, visits_of
from simulator.world import World

_SAMPLE_USERS, _SAMPLE_DAYS, _SAMPLE_SCALE = 20_000, 5, 3.0


def _rows_a_visit(world: World) -> float:
    """Return how many rows a visit leaves on average, from visits of a few days spread over the period."""
    plan = world.plan
    busy = replace(world, scale=_SAMPLE_SCALE)
    visits_seen = rows_seen = 0
    mood = next_mood(plan.seed, 0, None, plan.users)
    for day in np.unique(np.linspace(0, plan.days - 1, _SAMPLE_DAYS).astype(np.int64)).tolist():
        users = np.arange(min(plan.users, _SAMPLE_USERS))
        visits = visits_of(busy, day, user_days(busy, day, mood, users))
        shop = open_shop(busy, day)
        choices = choose(busy, shop, visits)
        end = day_start(plan.start, plan.days)
        later = later_rows(busy, shop, visits, choices).filter(pl.col("ts") < end)
        visits_seen += visits.user.size
        rows_seen += visit_rows(busy, shop, visits, choices).height + later.height
    return rows_seen / max(visits_seen, 1)


def _expected_visits(world: World) -> float:
    """Return the expected visits of people over the whole period, at the scale 1."""
    people, days = world.people, world.plan.days
    still = np.cumsum([traffic(world.plan.start, day) for day in range(days)][::-1])[::-1]  # from a day to the end
    return float((people.activity * still[np.maximum(people.joined, 0)]).sum())


def scaled(world: World) -> World:
    """Return the world with people as busy as `plan.events` needs.

    Raises:
        SettingsError: some people would have to come more often than `MOST_MEAN` times per day.
    """
    plan = world.plan
    if plan.events is None:
        return world
    rows = _expected_visits(world) * _rows_a_visit(world) + plan.days * bots_of(world) * WALKS_A_DAY * MEAN_ROWS
    scale = plan.events / rows
    usual = scale * float(np.quantile(world.people.activity, 0.9))
    if usual > MOST_MEAN / 4:
        most = int(plan.events * MOST_MEAN / 4 / usual)
        raise SettingsError(
            f"--events: must be at most about {most:,} for {plan.users:,} users on {plan.days:,} days, who would come "
            f"more than {MOST_MEAN / 4:g} times a day otherwise; received {plan.events}. Ask for more users or days"
        )
    return replace(world, scale=scale)
