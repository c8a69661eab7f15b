"""Generate contract events of any size in bounded memory, as input for the benchmarks.

At most 10 million events are simulated; larger sizes are copies of the same shop, which share items but have their own
users, sessions and orders. The files are created once per size and kept until the folder is removed.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq

from shoplens.files import whole_folder, write_json

SIMULATED = 10_000_000  # largest simulation
EVENTS_PER_USER = 100
ITEMS, DAYS, SEED = 20_000, 180, 7
START = datetime(2025, 1, 1, tzinfo=UTC)
_OWN = ("event_id", "user_id", "anonymous_id", "session_id", "order_id")  # columns that differ between copies

# Profiles are not needed.
_USERS: dict[str, Any] = {
    "user_id": pl.String,
    "registered_at": pl.Datetime("us", "UTC"),
    "gender": pl.String,
    "birth_year": pl.Int32,
}
_CONTRACT = """
SELECT id AS event_id, timezone('UTC', CAST(ts AS TIMESTAMP)) AS event_time,
       timezone('UTC', CAST(received_at AS TIMESTAMP)) AS ingested_at,
       CASE action WHEN 'page' THEN 'view_item_list' WHEN 'click' THEN 'select_item' WHEN 'product' THEN 'view_item'
            WHEN 'basket_add' THEN 'add_to_cart' WHEN 'basket_remove' THEN 'remove_from_cart'
            WHEN 'checkout' THEN 'begin_checkout' WHEN 'order' THEN 'purchase' WHEN 'return' THEN 'refund'
            WHEN 'promo_shown' THEN 'view_promotion' WHEN 'promo_click' THEN 'select_promotion'
            ELSE action END AS event_name,
       customer AS user_id, visitor AS anonymous_id, channel AS platform, visit AS session_id, sku AS item_id,
       CAST(qty AS DOUBLE) AS quantity, CAST(unit_price AS DOUBLE) AS price,
       CAST(unit_price AS DOUBLE) * qty AS amount, 'EUR' AS currency, order_no AS order_id, search_text AS query,
       shown AS results, list AS list_id, CAST(rank AS INTEGER) AS position, page AS url, seconds AS dwell_seconds,
       CAST(stars AS DOUBLE) AS rating, comment AS text, promo AS campaign_id
FROM read_parquet($log) ORDER BY event_time, event_id
"""


def simulated(out: Path, rows: int, *, users: int, items: int, days: int, dirt: dict[str, float]) -> Path:
    """Simulate a shop in `out`, unless it exists; return `out`."""
    from simulator.plan import Plan
    from simulator.run import simulate

    if not (out / "simulation.json").is_file():
        simulate(Plan(users, items, days, SEED, START.date(), rows, dirt, 0.0), out)
    return out


def _tables(shop: Path, out: Path) -> None:
    """Write the tables events, items and users in the schemas of the contract."""
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(out / ".spill")}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        events = connection.sql(_CONTRACT, params={"log": str(shop / "log.parquet")})
        schema = events.limit(0).to_arrow_table().schema
        with pq.ParquetWriter(out / "events.parquet", schema, compression="zstd", store_schema=False) as w:
            for batch in events.to_arrow_reader(1 << 17):
                w.write_batch(batch)
    shutil.rmtree(out / ".spill", ignore_errors=True)
    products = pl.read_parquet(shop / "products.parquet")
    path = pl.concat_str("department", "section", separator=" > ")
    items = products.select(
        pl.col("sku").alias("item_id"),
        path.alias("category"),
        pl.col("maker").alias("brand"),
        pl.col("list_price").alias("price"),
        pl.col("name").alias("title"),
        pl.col("blurb").alias("description"),
    )
    items.write_parquet(out / "items.parquet")


def make(rows: int, folder: Path) -> Path:
    """Return a folder with about `rows` events as the stage `validate` would write them, creating it if necessary."""
    target = folder / f"events-{rows}"
    if (target / "dataset.json").is_file():
        return target
    copies = max(rows // SIMULATED, 1)
    with whole_folder(target) as out:
        if copies == 1:
            people, place = max(rows // EVENTS_PER_USER, 10), folder / f"simulated-{rows}"
            shop = simulated(place, rows, users=people, items=ITEMS, days=DAYS, dirt={})
            _tables(shop, out)
        else:
            once = make(SIMULATED, folder)
            shutil.copy(once / "items.parquet", out)
            _copied(once / "events.parquet", out / "events.parquet", copies)
        end = START + timedelta(days=DAYS)
        pl.DataFrame(schema=_USERS).write_parquet(out / "users.parquet")
        about = {"start": START.isoformat(), "high_water": end.isoformat(), "identity": "user"}
        counted = pq.read_metadata(out / "events.parquet").num_rows
        write_json(out / "dataset.json", {**about, "source": "simulated", "mapping": "simulated", "rows": counted})
    return target


def _copied(source: Path, target: Path, copies: int) -> None:
    """Write `copies` of every event next to each other, which preserves the order by time and ID."""
    own = ", ".join(f"{name} || '-' || copy AS {name}" for name in _OWN)
    with duckdb.connect(config={"memory_limit": "4GB", "preserve_insertion_order": "true"}) as connection:
        many = connection.sql(
            f"SELECT * EXCLUDE (copy) REPLACE ({own}) "  # noqa: S608  (names of columns, from above)
            "FROM (SELECT *, unnest(range($copies)) AS copy FROM read_parquet($source))",
            params={"source": str(source), "copies": copies},
        )
        many.write_parquet(str(target), compression="zstd", row_group_size=1 << 17)
