"""What only the simulator knows, as Parquet files in `truth/`: nothing that a shop could log.

users.parquet        user_id, taste, preference (chance of each category, in the order of categories.parquet),
                     budget (log of price over median), visits_a_day, propensity (log-odds), expected_units
categories.parquet   category, place (in the dimensions of taste)
items.parquet        item_id, place, weight (popularity within the category), launch_day (-1: before the first)
user_days.parquet    date, user_id, mood, visits, purchase_rate, purchase_probability (see `visits`); P(buys within
                     several days), given their moods, is 1 - exp(-sum of their rates)
visits.parquet       visit_id, user_id, start_time, platform, purchase_probability, buys
demand.parquet       date (of the visit), item_id, expected_units: given who came and what they were shown
"""

from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulator.catalogue import LEAVES
from simulator.choices import expected_units
from simulator.draws import Floats
from simulator.people import customers
from simulator.rows import PLATFORMS, VISIT, GrowingFile, unique_ids
from simulator.visits import UserDays, Visits
from simulator.world import World

_RATES = dict.fromkeys(("visits", "purchase_rate", "purchase_probability"), pl.Float64)
_USER_DAYS: dict[str, Any] = {"date": pl.Date, "user_id": pl.String, "mood": pl.Float32, **_RATES}
_VISITS: dict[str, Any] = {
    "visit_id": pl.String,
    "user_id": pl.String,
    "start_time": pl.Datetime("ms"),
    "platform": pl.String,
    "purchase_probability": pl.Float64,
    "buys": pl.Boolean,
}
_DEMAND: dict[str, Any] = {"date": pl.Date, "item_id": pl.String, "expected_units": pl.Float64}


class Truth:
    """The files of `truth/`, which grow day by day."""

    def __init__(self, world: World, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        self._world = world

        def grows(name: str, schema: dict[str, Any]) -> GrowingFile:
            return stack.enter_context(closing(GrowingFile(folder / f"{name}.parquet", schema)))

        self._user_days = grows("user_days", _USER_DAYS)
        self.visits = grows("visits", _VISITS)
        self._demand = grows("demand", _DEMAND)
        _write_standing(world, folder)

    def _date(self, day: int, rows: int) -> pl.Series:
        return pl.repeat(self._world.plan.start + timedelta(days=day), rows, dtype=pl.Date, eager=True)

    def add_people(self, day: int, today: UserDays) -> None:
        """Keep what is true of people on a day."""
        columns = {
            "date": self._date(day, today.user.size),
            "user_id": customers(today.user),
            "mood": today.mood,
            "visits": today.visits,
            "purchase_rate": today.rate,
            "purchase_probability": -np.expm1(-today.rate),
        }
        self._user_days.add(pl.DataFrame(columns))

    def add_visits(self, visits: Visits) -> None:
        """Keep what is true of visits."""
        columns = {
            "visit_id": unique_ids(self._world.plan.seed, visits.user, visits.day, visits.number, VISIT),
            "user_id": customers(visits.user),
            "start_time": visits.start,
            "platform": pl.Series(PLATFORMS).gather(visits.platform),
            "purchase_probability": visits.chance,
            "buys": visits.buys,
        }
        self.visits.add(pl.DataFrame(columns))

    def add_demand(self, day: int, demand: Floats) -> None:
        """Keep the expected units of every article that anybody was shown on a day."""
        shown = np.flatnonzero(demand)
        items = self._world.catalogue.skus.gather(shown)
        columns = {"date": self._date(day, shown.size), "item_id": items, "expected_units": demand[shown]}
        self._demand.add(pl.DataFrame(columns))


def _write_standing(world: World, folder: Path) -> None:
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
