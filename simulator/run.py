"""Run the simulation day by day, with one day of rows and later returns and reviews in memory.

FOLDER/log.parquet                                     the shop's log, in order of time
FOLDER/products.parquet customers.parquet promos.parquet   its other tables
FOLDER/simulation.json                                 the arguments, and counts to check an account against
FOLDER/truth/                                          the ground truth, which no shop could log; ingest ignores it

users.parquet        user_id, taste, preference (chance of each category, in the order of categories.parquet),
                     budget (log of price over median), visits_a_day, propensity (log-odds), expected_units
categories.parquet   category, place (in the dimensions of taste)
items.parquet        item_id, place, weight (popularity within the category), launch_day (-1: before the first)
user_days.parquet    date, user_id, mood, visits, purchase_rate, purchase_probability (see `visits`); P(buys within
                     several days), given their moods, is 1 - exp(-sum of their rates)
visits.parquet       visit_id, user_id, start_time, platform, purchase_probability, buys
demand.parquet       date (of the visit), item_id, expected_units: given who came and what they were shown
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.progress import track

from events.parquet import GroupedWriter
from shoplens.errors import SettingsError
from shoplens.files import whole_folder, write_json
from shoplens.stage import console
from simulator.clicks import MEAN_ROWS, WALKS_PER_DAY, bot_rows, bots_of, later_rows, visit_rows
from simulator.draws import Floats
from simulator.log import ACTIONS, CODE, KINDS, LOG, PLATFORMS, SORTED_BY, VISIT, as_log, soil, unique_ids, write_wrong
from simulator.plan import DONE, Plan, read_dirt, require_place
from simulator.visits import (
    MOST_MEAN,
    UserDays,
    Visits,
    add_demand,
    choose,
    expected_units,
    open_shop,
    user_days,
    visits_of,
)
from simulator.world import (
    LEAVES,
    World,
    build_world,
    customers,
    day_start,
    next_mood,
    traffic,
    write_tables,
)


class Truth:
    """Writes the files of `truth/` that grow day by day."""

    def __init__(self, world: World, folder: Path, stack: ExitStack) -> None:
        self._world, self._folder, self._stack = world, folder, stack
        self.files: dict[str, GroupedWriter] = {}

    def _add(self, name: str, **columns: Any) -> None:
        frame = pl.DataFrame(columns)
        if name not in self.files:
            writer = GroupedWriter(self._folder / f"{name}.parquet", frame.schema)
            self.files[name] = self._stack.enter_context(writer)
        self.files[name].add(frame)

    def _date(self, day: int, rows: int) -> pl.Series:
        return pl.repeat(self._world.plan.start + timedelta(days=day), rows, dtype=pl.Date, eager=True)

    def add_visits(self, day: int, today: UserDays, visits: Visits) -> None:
        """Record the true state of people on a day, and of their visits."""
        self._add(
            "user_days",
            date=self._date(day, today.user.size),
            user_id=customers(today.user),
            mood=today.mood.astype(np.float32),
            visits=today.visits,
            purchase_rate=today.rate,
            purchase_probability=-np.expm1(-today.rate),
        )
        ids = unique_ids(self._world.plan.seed, visits.user, visits.day, visits.number, VISIT)
        self._add(
            "visits",
            visit_id=pl.Series(ids).cast(pl.String),
            user_id=customers(visits.user),
            start_time=pl.Series(visits.start).cast(pl.Datetime("ms")),
            platform=pl.Series(PLATFORMS).gather(visits.platform),
            purchase_probability=visits.chance,
            buys=visits.buys,
        )

    def add_demand(self, day: int, demand: Floats) -> None:
        """Record the expected units of every article that was shown to anyone on a day."""
        shown = np.flatnonzero(demand)
        items = self._world.catalogue.skus.gather(shown)
        self._add("demand", date=self._date(day, shown.size), item_id=items, expected_units=demand[shown])


def _write_standing(world: World, folder: Path) -> None:
    folder.mkdir()
    people, catalogue = world.people, world.catalogue
    everybody = np.arange(world.plan.users)
    users = {
        "user_id": customers(everybody),
        "taste": people.taste,
        "preference": people.preference,
        "budget": people.budget,
        "visits_a_day": world.scale * people.activity,
        "propensity": people.propensity,
        "expected_units": expected_units(world, everybody),
    }
    places = {"category": LEAVES[: len(catalogue.category_place)], "place": catalogue.category_place}
    items = {
        "item_id": catalogue.skus,
        "place": catalogue.place,
        "weight": catalogue.weight,
        "launch_day": catalogue.launch,
    }
    for name, columns in {"users": users, "categories": places, "items": items}.items():
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")


_LATER = [CODE["return"], CODE["review"]]
_CHUNK = 1 << 16  # users at a time: some 100,000 visits of 16 places
_SAMPLE_USERS, _SAMPLE_DAYS, _SAMPLE_SCALE = 20_000, 5, 3.0


@dataclass
class Counts:
    """The number of rows written."""

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


def _rows_per_visit(world: World) -> float:
    """Return the average number of rows per visit, from visits of a few days spread over the period."""
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
    """Return the world with people's activity scaled to give `plan.events` rows.

    Raises:
        SettingsError: some people would have to visit more than `MOST_MEAN` times per day.
    """
    plan = world.plan
    if plan.events is None:
        return world
    still = np.cumsum([traffic(plan.start, day) for day in range(plan.days)][::-1])[::-1]  # from a day to the end
    visits = float((world.people.activity * still[np.maximum(world.people.joined, 0)]).sum())
    rows = visits * _rows_per_visit(world) + plan.days * bots_of(world) * WALKS_PER_DAY * MEAN_ROWS
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
    """Return the ROWS of a day's visits and of later returns and reviews; record their ground truth."""
    shop = open_shop(world, day)
    demand = np.zeros(world.plan.items)
    found = [bot_rows(world, day)]
    for first in range(0, world.plan.users, chunk):
        today = user_days(world, day, mood, np.arange(first, min(first + chunk, world.plan.users)))
        visits = visits_of(world, day, today)
        choices = choose(world, shop, visits)
        found += [visit_rows(world, shop, visits, choices), later_rows(world, shop, visits, choices)]
        truth.add_visits(day, today, visits)
        add_demand(demand, world, visits, choices)
    truth.add_demand(day, demand)
    return found


def _due(plan: Plan, day: int) -> pl.Expr:
    """Return the pending rows to write to the log with a day."""
    over = pl.col("ts") >= day_start(plan.start, day + 1)
    if day < plan.days - 1:
        return ~over
    # The log ends with its last day. Visits in progress are finished, but later returns and reviews are not written.
    return ~(over & pl.col("action").is_in(_LATER))


def _write_log(world: World, folder: Path, days: Iterable[int], chunk: int) -> Counts:
    _write_standing(world, folder / "truth")
    plan, counts, mood = world.plan, Counts(), None
    waiting = pl.DataFrame()
    with ExitStack() as stack:
        log = stack.enter_context(GroupedWriter(folder / "log.parquet", LOG))
        truth = Truth(world, folder / "truth", stack)
        for day in days:
            mood = next_mood(plan.seed, day, mood, plan.users)
            known = pl.concat([waiting, *_day_rows(world, day, mood, truth, chunk)], how="diagonal")
            due = _due(plan, day)
            waiting = known.filter(~due)
            dirty = soil(known.filter(due).sort(SORTED_BY), plan.seed, plan.dirt)
            log.add(write_wrong(as_log(dirty, world.catalogue.skus), dirty["kind"]))
            _count(counts, dirty)
    counts.rows, counts.visits = log.rows, truth.files["visits"].rows
    return counts


def _count(counts: Counts, dirty: pl.DataFrame) -> None:
    for action, rows in dirty["action"].value_counts().iter_rows():
        counts.actions[ACTIONS[action]] += rows
    counts.dirt.update(dict(dirty["kind"].drop_nulls().value_counts().iter_rows()))
    counts.orders += dirty["order_no"].filter(dirty["action"] == CODE["order"]).n_unique()
    # people always dwell
    counts.bot_rows += dirty.filter((pl.col("action") == CODE["product"]) & pl.col("seconds").is_null()).height


def simulate(plan: Plan, out: Path, chunk: int = _CHUNK) -> Counts:
    """Write a simulation to the folder `out` atomically, replacing an earlier simulation.

    `chunk`, the number of users simulated at a time, affects only memory use.

    Raises:
        SettingsError: `out` has other files, or so many events would need more visits per day than possible.
    """
    require_place(out)
    world = _scaled(build_world(plan))
    with whole_folder(out) as folder:
        days = track(range(plan.days), description="simulating", console=console)
        counts = _write_log(world, folder, days, chunk)
        write_tables(world, folder)
        write_json(folder / DONE, counts.as_json(plan))
    return counts


def simulate_command(
    out: Annotated[Path, typer.Option(help="A new or an empty folder, or an earlier simulation, which is replaced.")],
    users: Annotated[int, typer.Option(help="People who could visit.")],
    items: Annotated[int, typer.Option(help="Articles.")],
    days: Annotated[int, typer.Option(help="Whole days, UTC.")],
    seed: Annotated[int, typer.Option(help="The same arguments give the same bytes.")],
    events: Annotated[int | None, typer.Option(help="About how many rows the log shall have.")] = None,
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day; default 2025-01-01.")
    ] = None,
    dirt: Annotated[
        list[str] | None, typer.Option(help="KIND=RATE: a share of the rows is made wrong in a named way; repeatable.")
    ] = None,
    bots: Annotated[float, typer.Option(help="Bots, as a share of the users.")] = 0.0,
) -> None:
    """Simulate a shop with known ground truth, for load tests, fault tests and demonstrations."""
    plan = Plan(users, items, days, seed, start.date() if start else Plan.start, events, read_dirt(dirt or []), bots)
    counts = simulate(plan, out)
    typer.echo(f"{out}: {counts.rows:,} rows of {counts.visits:,} visits with {counts.orders:,} orders")
    for kind, rows in sorted(counts.dirt.items()):
        typer.echo(f"  {kind}: {rows:,} rows")
    typer.echo(f"read it with: shoplens ingest --mapping events/mappings/simulated.yaml --lake LAKE {out}")
