"""The kinds of dirt: which rows they can affect, what becomes of such a row at ingest, and how a row is made wrong."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from simulator.draws import Ints, keys, uniform
from simulator.rows import CODE


@dataclass(frozen=True)
class Kind:
    """One kind of dirt."""

    affects: Literal["all", "priced", "review", "purchase"]  # which rows of the log
    # where it is detected: by ingest, by the stage validate, or nowhere, because such a row is valid
    at: Literal["ingest", "validate", "nowhere"]
    becomes: str  # the reason in quarantine, or what it counts as
    why: str  # what happens in a shop


KINDS: dict[str, Kind] = {
    "duplicate": Kind("all", "ingest", "exact_duplicates", "A tracker sends a row again; the row is there twice."),
    "id_with_other_content": Kind("all", "ingest", "event_id_with_other_content", "A second row with a used ID."),
    "missing_id": Kind("all", "ingest", "event_id_missing", "A row without an ID."),
    "missing_user": Kind("all", "ingest", "who_missing", "Neither customer nor visitor is known."),
    "missing_time": Kind("all", "ingest", "event_time_missing", "A row without a time."),
    "bad_time": Kind("all", "ingest", "event_time_not_a_time", "A day and month that no calendar has."),
    "missing_event": Kind("all", "ingest", "event_name_missing", "A row without the name of its event."),
    "unknown_event": Kind("all", "ingest", "event_name_unknown", "A new tracker's event that no mapping knows."),
    "bad_number": Kind("priced", "ingest", "price_not_a_number", "A price with a comma and a currency sign."),
    "negative_price": Kind("priced", "validate", "price_negative", "A correction booked as a sale."),
    "missing_item": Kind("purchase", "validate", "item_id_missing", "An order line without its article."),
    "rating_out_of_range": Kind("review", "validate", "rating_out_of_range", "Ten stars of five."),
    "future_clock": Kind("all", "validate", "ingested_before_it_happened", "A phone whose clock is hours ahead."),
    "late": Kind("all", "nowhere", "accepted", "A phone without a network delivers days later."),
    "out_of_order": Kind("all", "nowhere", "accepted", "A row that lies after later ones in the file."),
}

_HOUR_MS = 3_600_000
_CLEAN = -1
_BAD_DAY = "2025-02-30 25:61:00"


def _chosen(rows: pl.DataFrame, seed: int, rates: dict[str, float]) -> Ints:
    """Return the place of its kind in `rates` for every row, or -1 for a clean one."""
    draw = pl.lit(pl.Series(uniform(keys(seed, "dirt", rows["id"].to_numpy()), 0)))
    affected = {
        "all": pl.lit(value=True),
        "priced": pl.col("price").is_not_null(),
        "review": pl.col("action") == CODE["review"],
        "purchase": pl.col("action") == CODE["order"],
    }
    start, chosen = 0.0, pl.lit(_CLEAN)
    for place, (kind, rate) in enumerate(rates.items()):
        hit = (draw >= start) & (draw < start + rate) & affected[KINDS[kind].affects]
        chosen = pl.when(hit).then(pl.lit(place)).otherwise(chosen)
        start += rate
    return rows.select(chosen.cast(pl.Int64).alias("kind"))["kind"].to_numpy()


def soil(rows: pl.DataFrame, seed: int, rates: dict[str, float]) -> pl.DataFrame:
    """Return sorted ROWS with their `kind` of dirt (null: clean), shifted times, and places in the file changed.

    `rates` gives, for each kind, the share of the rows that it can affect.
    """
    if not rates:
        return rows.with_columns(pl.lit(None, dtype=pl.String).alias("kind"))
    kind = pl.Series("kind", list(rates)).gather(pl.Series(_chosen(rows, seed, rates)).replace(_CLEAN, None))
    hours = pl.lit(pl.Series(1.0 + 47.0 * uniform(keys(seed, "dirt hours", rows["id"].to_numpy()), 0)))
    shift = (hours * _HOUR_MS).cast(pl.Int64)
    marked = rows.with_columns(pl.lit(kind).alias("kind")).with_columns(
        # Within the day: the file is written a day at a time. A row with none after it stays in its place, and clean.
        pl.when(pl.col("kind") == "out_of_order").then(pl.col("ts") + shift // 16).otherwise("ts").alias("_place"),
        pl.when(pl.col("kind") == "future_clock").then(pl.col("ts") + shift).otherwise("ts").alias("_ts"),
        pl.when(pl.col("kind") == "future_clock")
        .then(pl.col("delay") - shift)
        .when(pl.col("kind") == "late")
        .then(pl.col("delay") + 24 * _HOUR_MS + 3 * shift)
        .otherwise("delay")
        .alias("delay"),
    )
    ordered = marked.sort("_place", "id")
    overtaken = pl.col("ts") < pl.col("ts").cum_max()
    return ordered.with_columns(
        pl.when((pl.col("kind") != "out_of_order") | overtaken).then("kind"), pl.col("_ts").alias("ts")
    ).drop("_place", "_ts")


def write_wrong(log: pl.DataFrame, kind: pl.Series) -> pl.DataFrame:
    """Return LOG with the wrong values written in, and rows that are there twice; `kind` is that of every row."""
    is_kind = {name: pl.col("kind").fill_null("") == name for name in KINDS}

    def nothing(column: str, *kinds: str) -> pl.Expr:
        return pl.when(~pl.any_horizontal([is_kind[name] for name in kinds])).then(column).alias(column)

    dirty = log.with_columns(kind.alias("kind")).with_columns(
        nothing("id", "missing_id"),
        nothing("customer", "missing_user"),
        nothing("visitor", "missing_user"),
        nothing("sku", "missing_item"),
        pl.when(is_kind["bad_time"]).then(pl.lit(_BAD_DAY)).otherwise(nothing("ts", "missing_time")).alias("ts"),
        pl.when(is_kind["unknown_event"])
        .then(pl.lit("heartbeat"))
        .otherwise(nothing("action", "missing_event"))
        .alias("action"),
        pl.when(is_kind["bad_number"])
        .then(pl.col("unit_price").str.replace(".", ",", literal=True) + " €")
        .when(is_kind["negative_price"])
        .then("-" + pl.col("unit_price"))
        .otherwise("unit_price")
        .alias("unit_price"),
        pl.when(is_kind["rating_out_of_range"]).then(pl.lit(10)).otherwise("stars").alias("stars"),
    )
    times = pl.when(is_kind["duplicate"] | is_kind["id_with_other_content"]).then(2).otherwise(1)
    twice = dirty.with_columns(pl.int_range(pl.len()).alias("_row"))
    whole = twice[np.repeat(np.arange(twice.height), twice.select(times).to_series().to_numpy())]
    other = is_kind["id_with_other_content"] & ~pl.col("_row").is_first_distinct()
    return whole.with_columns(pl.when(other).then(pl.lit("/moved")).otherwise("page").alias("page")).select(log.columns)
