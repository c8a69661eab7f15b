"""The simulation, day by day: in memory are one day of rows, and what returns and reviews of earlier orders need.

FOLDER/log.parquet                                     the shop's log, in order of time
FOLDER/products.parquet customers.parquet promos.parquet   its other tables
FOLDER/simulation.json                                 the arguments, and counts to hold an account against
FOLDER/truth/                                          see `truth`; a folder, which ingest does not look into
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.progress import track

from shoplens.errors import SettingsError
from shoplens.files import whole_folder, write_json
from shoplens.stage import console
from simulator.bots import MEAN_ROWS, WALKS_A_DAY, bot_rows, bots_of
from simulator.calendar import day_start, traffic
from simulator.catalogue import items_table
from simulator.choices import add_demand, choose, open_shop
from simulator.clicks import later_rows, visit_rows
from simulator.dirt import KINDS, soil, write_wrong
from simulator.draws import Floats
from simulator.people import next_mood, users_table
from simulator.plan import DONE, Plan, require_place
from simulator.promotions import campaigns_table
from simulator.rows import ACTIONS, CODE, LOG, SORTED_BY, GrowingFile, as_log
from simulator.truth import Truth
from simulator.visits import MOST_MEAN, user_days, visits_of
from simulator.world import World, build_world

_LATER = [CODE["return"], CODE["review"]]
_CHUNK = 1 << 16  # users at a time: some 100,000 visits of 16 places
_SAMPLE_USERS, _SAMPLE_DAYS, _SAMPLE_SCALE = 20_000, 5, 3.0


@dataclass
class Counts:
    """What was written."""

    rows: int = 0
    bot_rows: int = 0
    visits: int = 0
    orders: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    dirt: Counter[str] = field(default_factory=Counter)

    def as_json(self, plan: Plan) -> dict[str, Any]:
        """Return the counts as JSON values, each kind of dirt with its result."""
        dirt = {
            kind: {"rows": self.dirt[kind], "rate": rate, "at": KINDS[kind].at, "becomes": KINDS[kind].becomes}
            for kind, rate in plan.dirt.items()
        }
        counts = {"rows": self.rows, "bot_rows": self.bot_rows, "visits": self.visits, "orders": self.orders}
        return {"arguments": plan.as_json(), **counts, "actions": dict(self.actions), "dirt": dirt}


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


def _scaled(world: World) -> World:
    """Return the world with people as busy as `plan.events` needs.

    Raises:
        SettingsError: some people would have to come more often than `MOST_MEAN` times per day.
    """
    plan = world.plan
    if plan.events is None:
        return world
    still = np.cumsum([traffic(plan.start, day) for day in range(plan.days)][::-1])[::-1]  # from a day to the end
    visits = float((world.people.activity * still[np.maximum(world.people.joined, 0)]).sum())
    rows = visits * _rows_a_visit(world) + plan.days * bots_of(world) * WALKS_A_DAY * MEAN_ROWS
    scale = plan.events / rows
    usual = scale * float(np.quantile(world.people.activity, 0.9))
    if usual > MOST_MEAN / 4:
        most = int(plan.events * MOST_MEAN / 4 / usual)
        raise SettingsError(
            f"--events: must be at most about {most:,} for {plan.users:,} users on {plan.days:,} days, who would come "
            f"more than {MOST_MEAN / 4:g} times a day otherwise; received {plan.events}. Ask for more users or days"
        )
    return replace(world, scale=scale)


def _day_rows(world: World, day: int, mood: Floats, truth: Truth, chunk: int) -> list[pl.DataFrame]:
    """Return ROWS of a day's visits and of what follows them; keep what is true of them."""
    shop = open_shop(world, day)
    demand = np.zeros(world.plan.items)
    found = [bot_rows(world, day)]
    for first in range(0, world.plan.users, chunk):
        today = user_days(world, day, mood, np.arange(first, min(first + chunk, world.plan.users)))
        visits = visits_of(world, day, today)
        choices = choose(world, shop, visits)
        found += [visit_rows(world, shop, visits, choices), later_rows(world, shop, visits, choices)]
        truth.add_people(day, today)
        truth.add_visits(visits)
        add_demand(demand, world, visits, choices)
    truth.add_demand(day, demand)
    return found


def _due(plan: Plan, day: int) -> pl.Expr:
    """Return which of the known rows go into the log with a day."""
    over = pl.col("ts") >= day_start(plan.start, day + 1)
    if day < plan.days - 1:
        return ~over
    # The log ends with its last day. A visit that has begun is finished; what would follow it later is not written.
    return ~(over & pl.col("action").is_in(_LATER))


def _write_log(world: World, folder: Path, days: Iterable[int], chunk: int) -> Counts:
    plan, counts, mood = world.plan, Counts(), None
    waiting = pl.DataFrame()
    with ExitStack() as stack:
        log = stack.enter_context(closing(GrowingFile(folder / "log.parquet", LOG)))
        truth = Truth(world, folder / "truth", stack)
        for day in days:
            mood = next_mood(plan.seed, day, mood, plan.users)
            known = pl.concat([waiting, *_day_rows(world, day, mood, truth, chunk)], how="diagonal")
            due = _due(plan, day)
            waiting = known.filter(~due)
            dirty = soil(known.filter(due).sort(SORTED_BY), plan.seed, plan.dirt)
            log.add(write_wrong(as_log(dirty, world.catalogue.skus), dirty["kind"]))
            _count(counts, dirty)
    counts.rows, counts.visits = log.rows, truth.visits.rows
    return counts


def _count(counts: Counts, dirty: pl.DataFrame) -> None:
    for action, rows in dirty["action"].value_counts().iter_rows():
        counts.actions[ACTIONS[action]] += rows
    counts.dirt.update(dict(dirty["kind"].drop_nulls().value_counts().iter_rows()))
    counts.orders += dirty["order_no"].filter(dirty["action"] == CODE["order"]).n_unique()
    # people always dwell
    counts.bot_rows += dirty.filter((pl.col("action") == CODE["product"]) & pl.col("seconds").is_null()).height


def simulate(plan: Plan, out: Path, chunk: int = _CHUNK) -> Counts:
    """Write a simulation into the folder `out`, whole or not at all; an earlier simulation there is replaced.

    `chunk`, the users simulated at a time, changes the memory that is used and nothing else.

    Raises:
        SettingsError: `out` holds something else, or so many events need more visits than a day has.
    """
    require_place(out)
    world = _scaled(build_world(plan))
    with whole_folder(out) as folder:
        days = track(range(plan.days), description="simulating", console=console)
        counts = _write_log(world, folder, days, chunk)
        items_table(plan, world.catalogue).write_parquet(folder / "products.parquet")
        users_table(plan, world.people).write_parquet(folder / "customers.parquet")
        campaigns_table(plan, world.campaigns, world.people).write_parquet(folder / "promos.parquet")
        write_json(folder / DONE, counts.as_json(plan))
    return counts
