"""One view over a few events, as the stage computes it, without the other tables of the stage."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from features.engine.engines import duckdb
from features.engine.job import Job, SplitLog
from features.views.contract import View
from features.views.windows import Days
from tests.features.conftest import ITEMS, catalogue_of

_TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, Any] = {
    "event_id": pl.String, "event_time": _TIME, "ingested_at": _TIME, "event_name": pl.String, "user_id": pl.String,
    "session_id": pl.String, "item_id": pl.String, "order_id": pl.String, "quantity": pl.Float64, "price": pl.Float64,
    "amount": pl.Float64, "rating": pl.Float64,
}  # fmt: skip
_FOLDERS = itertools.count()


def put(folder: Path, rows: Iterable[Mapping[str, Any]]) -> tuple[Path, Path]:
    """Write events and catalogue into a new folder below `folder`; return their files."""
    frame = pl.DataFrame([{**dict.fromkeys(SCHEMA), **row} for row in rows], schema=SCHEMA, orient="row")
    frame = frame.sort("event_time", "event_id")
    place = folder / f"view{next(_FOLDERS)}"
    (place / "out").mkdir(parents=True)
    frame.write_parquet(place / "events.parquet")
    catalogue_of(frame, ITEMS).frame.write_parquet(place / "out/catalogue.parquet")
    return place / "events.parquet", place / "out/catalogue.parquet"


def rows_of(
    view: View, folder: Path, rows: Iterable[Mapping[str, Any]], days: Days, active: int
) -> list[dict[str, Any]]:
    """Compute a view; return the rows of its file."""
    events, catalogue = put(folder, rows)
    out = catalogue.parent
    with duckdb(out) as duck:
        Job(duck, SplitLog(duck.connection, events, out), out, days, active).write(view, lambda done, of: None)
    return pl.read_parquet(out / f"{view.name}.parquet").to_dicts()
