"""Rows of a view as they were on days that are asked for, from frozen events and the definition of the view.

For views that keep no history: what a snapshot of that day would have held is computed when training wants to know it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ibis
import ibis.expr.types as ir
import polars as pl

from features.engine.duck import DuckEngine, duckdb
from features.engine.plan import CATALOGUE, EVENTS, SENTIMENT, Schemas, compiled
from features.engine.write import ROW_GROUP, dated
from features.views import View, World
from features.windows import DAY_US, Days
from shoplens.errors import FeatureError

_ASKED = "asked"


def _about(view: View) -> Callable[[World], ir.Table]:
    """Return how the view is built for the keys in the table `asked`, from their events alone unless it needs all."""
    key = view.keys[0]
    asked = ibis.table({key: "string"}, name=_ASKED)

    def build(world: World) -> ir.Table:
        if view.whole:
            return view.build(world).semi_join(asked, key)
        return view.build(replace(world, log=world.log.semi_join(asked, key)))

    return build


def _schemas(duck: DuckEngine, events: Path, catalogue: Path, sentiment: Path | None) -> Schemas:
    scored = None if sentiment is None else duck.read(SENTIMENT, (sentiment,))
    return Schemas(duck.read(EVENTS, (events,)), duck.read(CATALOGUE, (catalogue,)), scored)


def rows_as_of(
    view: View, keys: pl.DataFrame, events: Path, catalogue: Path, active_days: int, sentiment: Path | None = None
) -> pl.DataFrame:
    """Return the view's rows in the last snapshot at or before each moment, 00:00 UTC of its day.

    Args:
        view: Any view.
        keys: The first key of the view (user_id) and event_timestamp (UTC), any order.
        events: `events.parquet`, as validated.
        catalogue: `catalogue.parquet`.
        active_days: `features.active_days`.
        sentiment: Scores of reviews, for a view that reads them.

    Returns:
        The view's keys, event_timestamp as in `keys`, features; sorted by time and keys. No row where a snapshot has
        none, several where the view has a second key.

    Raises:
        FeatureError: a column is missing.
    """
    key = view.keys[0]
    missing = {key, "event_timestamp"} - set(keys.columns)
    if missing:
        raise FeatureError(f"keys: must have {key} and event_timestamp; lacks {sorted(missing)}")
    moment = pl.col("event_timestamp")
    asked = keys.select(key, moment, snapshot=moment.dt.truncate("1d")).unique()
    found = []
    with tempfile.TemporaryDirectory(prefix="shoplens-as-of-") as spill, duckdb(Path(spill)) as duck:
        schemas, build = _schemas(duck, events, catalogue, sentiment), _about(view)
        for some in asked.sort("snapshot").partition_by("snapshot", maintain_order=True):
            day = some["snapshot"].dt.epoch("us")[0] // DAY_US
            duck.connection.register(_ASKED, some.select(key).unique().to_arrow())
            sql, schema = compiled(duck.name, build, view.keys, Days(day, day), active_days, schemas)
            rows = pl.DataFrame(dated(duck.run(sql, schema, ROW_GROUP), len(view.keys)).read_all())
            found.append(some.join(rows.drop("event_timestamp"), on=key).drop("snapshot"))
    columns = [*view.keys, "event_timestamp", *view.descriptions]
    return pl.concat(found).select(columns).sort("event_timestamp", *view.keys)
