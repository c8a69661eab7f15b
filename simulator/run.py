"""The simulation, day by day: in memory are one day of rows, and what returns and reviews of earlier orders need.

FOLDER/log.parquet                                     the shop's log, in order of time
FOLDER/products.parquet customers.parquet promos.parquet   its other tables
FOLDER/simulation.json                                 the arguments, and counts to hold an account against
FOLDER/truth/                                          see `truth`; a folder, which ingest does not look into
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.progress import track

from shoplens.files import whole_folder, write_json
from shoplens.stage import console
from simulator.bots import bot_rows
from simulator.calendar import day_start
from simulator.catalogue import items_table
from simulator.choices import add_demand, choose, open_shop
from simulator.clicks import later_rows, visit_rows
from simulator.dirt import KINDS, soil, write_wrong
from simulator.draws import Floats
from simulator.log import LOG, as_log, parts
from simulator.people import next_mood, users_table
from simulator.plan import DONE, Plan, require_place
from simulator.promotions import campaigns_table
from simulator.rows import ACTIONS, CODE, SORTED_BY
from simulator.size import scaled
from simulator.truth import Truth
from simulator.visits import user_days, visits_of
from simulator.world import World, build_world

_LATER = [CODE["return"], CODE["review"]]
_CHUNK = 1 << 16  # users at a time: some 100,000 visits of 16 places


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


def day_rows(world: World, day: int, mood: Floats, truth: Truth | None, chunk: int) -> list[pl.DataFrame]:
    """Return ROWS of a day's visits and of what follows them; keep what is true of them."""
    shop = open_shop(world, day)
    demand = np.zeros(world.plan.items)
    found = [bot_rows(world, day)]
    for first in range(0, world.plan.users, chunk):
        today = user_days(world, day, mood, np.arange(first, min(first + chunk, world.plan.users)))
        visits = visits_of(world, day, today)
        choices = choose(world, shop, visits)
        found += [visit_rows(world, shop, visits, choices), later_rows(world, shop, visits, choices)]
        if truth is not None:
            truth.add_people(day, today)
            truth.add_visits(visits)
            add_demand(demand, world, visits, choices)
    if truth is not None:
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
        log = stack.enter_context(parts(folder / "log.parquet", LOG))
        truth = Truth(world, folder / "truth", stack)
        for day in days:
            mood = next_mood(plan.seed, day, mood, plan.users)
            known = pl.concat([waiting, *day_rows(world, day, mood, truth, chunk)], how="diagonal")
            due = _due(plan, day)
            waiting = known.filter(~due)
            dirty = soil(known.filter(due).sort(SORTED_BY), plan.seed, plan.dirt)
            log.add(write_wrong(as_log(dirty, world.catalogue), dirty["kind"]))
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
    """Write a simulation into the folder `out`, whole or not at all.

    Args:
        plan: What is asked for.
        out: A new or an empty folder, or an earlier simulation, which is replaced.
        chunk: Users at a time; it changes the memory that is used and nothing else.

    Raises:
        SettingsError: `out` holds something else, or so many events need more visits than a day has.
    """
    require_place(out)
    world = scaled(build_world(plan))
    with whole_folder(out) as folder:
        days = track(range(plan.days), description="simulating", console=console)
        counts = _write_log(world, folder, days, chunk)
        items_table(plan, world.catalogue).write_parquet(folder / "products.parquet")
        users_table(plan, world.people).write_parquet(folder / "customers.parquet")
        campaigns_table(plan, world.campaigns, world.people).write_parquet(folder / "promos.parquet")
        write_json(folder / DONE, counts.as_json(plan))
    return counts
