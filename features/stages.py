"""The stage `features`: validated tables to daily snapshots, recent events and the catalogue."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.catalogue import build_catalogue
from features.definitions import RECENT_DESCRIPTIONS, SLOW_VIEWS, VIEW_MEANING, unit
from features.fast import FAST_DESCRIPTIONS
from features.item_popularity import item_popularity
from features.recent import order_key
from features.user_behaviour import user_behaviour
from features.user_preference import user_preference
from features.user_profile import describe, user_profile
from features.windows import DAY_US, read_log
from shoplens.errors import FeatureError
from shoplens.files import read_json, whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console

_ROW_GROUP = 1 << 17
_MEMORY_LIMIT = "2GB"  # DuckDB spills beyond it; the stage stays below 3 GB with the tables it hands over


@contextmanager
def engine() -> Iterator[Any]:
    """Yield DuckDB behind Ibis, in memory, in UTC."""
    connection = ibis.duckdb.connect()
    try:
        connection.raw_sql("SET TimeZone = 'UTC'")
        connection.raw_sql(f"SET memory_limit = '{_MEMORY_LIMIT}'")
        yield connection
    finally:
        connection.disconnect()


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet that depends on nothing but the rows."""
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP, store_schema=False)


def _write_snapshots(path: Path, key: str, snapshots: ir.Table) -> pa.Table:
    """Compute a view, in the order (day, key), and write it with its day as `event_timestamp`."""
    table = snapshots.order_by("day", key).to_pyarrow()
    moment = pc.multiply(table["day"].cast(pa.int64()), DAY_US).cast(pa.timestamp("us", tz="UTC"))
    table = table.drop_columns("day").add_column(1, "event_timestamp", moment)
    write_table(path, table)
    return table


def recent_lists(events: pl.DataFrame, n: int, high_water: datetime) -> pl.DataFrame:
    """Return one row a user: event_timestamp and lists of the last `n` events, oldest first.

    Only what was received before `high_water` is among them: training does not know more at that moment. The
    event_timestamp is when the last of them became known, so that of two rows of a user the later knows more.
    """
    columns = {
        "recent_event_ids": pl.col("event_id"),
        "recent_item_ids": pl.col("item_id").fill_null(""),
        "recent_event_names": pl.col("event_name").cast(pl.String),
        "recent_event_times": pl.col("event_time").dt.epoch("us"),
        "recent_quantities": pl.col("quantity").cast(pl.Float32).fill_null(0.0),
        "recent_amounts": pl.col("amount").cast(pl.Float32).fill_null(0.0),
        "recent_order_keys": order_key(),
    }
    return (
        events.filter(pl.col("user_id").is_not_null() & (pl.max_horizontal("event_time", "ingested_at") < high_water))
        .select("user_id", "event_time", pl.max_horizontal("event_time", "ingested_at").alias("_known"), **columns)
        .sort("user_id", "event_time", "recent_event_ids")
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("_known").max().alias("event_timestamp"), pl.col(*columns).tail(n))
    )


def _described(view: str, table: pa.Table) -> list[dict[str, Any]]:
    """Return the entries of `features.json` for one view, in the order of its columns."""
    known = {**SLOW_VIEWS.get(view, {}), **RECENT_DESCRIPTIONS}
    entries = []
    for name in table.column_names:
        if name in {"user_id", "item_id", "event_timestamp"}:
            continue
        meaning = known.get(name) or describe(name)
        share = table[name].null_count / table.num_rows if table.num_rows else 0.0
        entries.append({"name": name, "view": view, "meaning": meaning, "unit": unit(meaning), "null_share": share})
    return entries


def _moments(dataset: dict[str, Any]) -> tuple[datetime, int]:
    """Return when the data begins, and the last day (since 1970) whose start is not after the high-water mark."""
    start, end = (datetime.fromisoformat(dataset[name]).astimezone(UTC) for name in ("start", "high_water"))
    return start, int((end - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000 // DAY_US


def compute(validated: Path, out: Path, params: Params) -> dict[str, int]:
    """Write every table of `outs/features` into `out`; return rows a table."""
    dataset = read_json(validated / "dataset.json")
    start, last_day = _moments(dataset)
    events = pl.read_parquet(validated / "events.parquet")
    if events.is_empty():
        raise FeatureError(f"{validated / 'events.parquet'}: must have at least one event; it has none")
    catalogue = build_catalogue(events, pl.read_parquet(validated / "items.parquet"))
    write_table(out / "catalogue.parquet", catalogue.frame.to_arrow())
    high_water = datetime.fromisoformat(dataset["high_water"])
    recent = recent_lists(events, params.features.last_n, high_water).to_arrow()
    profile = user_profile(pl.read_parquet(validated / "users.parquet"), start).to_arrow()
    del events
    tables = {"recent_events": recent, "user_profile": profile}
    for name, table in tables.items():
        write_table(out / f"{name}.parquet", table)
    with engine() as connection:
        log = read_log(connection, str(validated / "events.parquet"))
        users = log.filter(log.user_id.notnull())
        views: dict[str, Callable[[], ir.Table]] = {
            "user_behaviour": lambda: user_behaviour(users, params.features.active_days, last_day),
            "user_preference": lambda: user_preference(
                users, connection.read_parquet(str(out / "catalogue.parquet")), _days(connection, out), last_day
            ),
            "item_popularity": lambda: item_popularity(log, last_day),
        }
        described = [entry for name, table in tables.items() for entry in _described(name, table)]
        rows = {name: table.num_rows for name, table in tables.items()}
        for name, build in views.items():
            table = _write_snapshots(
                out / f"{name}.parquet", "item_id" if name == "item_popularity" else "user_id", build()
            )
            described += _described(name, table)
            rows[name] = table.num_rows
    fast = [
        {"name": name, "view": "fast", "meaning": text, "unit": unit(text), "null_share": None}
        for name, text in FAST_DESCRIPTIONS.items()
    ]
    about = {"views": VIEW_MEANING, "features": described + fast, "rows": rows, "dataset": dataset}
    about |= params.features.model_dump()
    write_json(out / "features.json", about)
    return {**rows, "catalogue": catalogue.frame.height}


def _days(connection: Any, out: Path) -> ir.Table:
    """Return (user_id, day) of every behaviour snapshot: preferences exist for the same users and days."""
    table = connection.read_parquet(str(out / "user_behaviour.parquet"))
    origin = ibis.timestamp("1970-01-01", timezone="UTC")
    return table.select("user_id", day=(table.event_timestamp.delta(origin, unit="hour") / 24).cast("int32"))


def features(params: Params, settings: Settings) -> None:
    """Compute `outs/features` from `outs/validated`."""
    validated = settings.outs_dir / "validated"
    if not (validated / "events.parquet").is_file():
        raise FeatureError(f"{validated}: must hold the validated tables; run the stage `validate` first")
    with whole_folder(settings.outs_dir / "features") as work:
        rows = compute(validated, work, params)
    console.print("  ".join(f"{name} {count:,}" for name, count in sorted(rows.items())))
