"""The log in two forms: ROWS, numbers that are cheap to sort and store, and LOG, the text that a shop would write.

IDs are unique and opaque: user, day, visit and place, packed into 64 bits and scrambled. Each kind of dirt in KINDS is
drawn on ROWS and written to LOG.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from simulator.draws import Ints, Keys, keys, mix, uniform, word

ACTIONS = (
    "promo_shown", "promo_click", "page", "search", "click", "product", "basket_add", "basket_remove",
    "checkout", "order", "return", "review",
)  # fmt: skip
PLATFORMS = ("web", "ios", "android", "store")
STORE = 3
CODE = {name: place for place, name in enumerate(ACTIONS)}

_BOTH: dict[str, Any] = {  # columns that are the same in both forms
    "search_text": pl.String,
    "shown": pl.String,
    "list": pl.String,
    "rank": pl.Int32,
    "page": pl.String,
    "seconds": pl.Float64,
    "stars": pl.Int64,
    "comment": pl.String,
    "promo": pl.String,
}
ROWS: dict[str, Any] = {
    "id": pl.UInt64,
    "ts": pl.Int64,  # milliseconds since 1970
    "delay": pl.Int64,  # milliseconds until the shop's server has it
    "action": pl.UInt8,  # place in ACTIONS
    "user": pl.Int64,  # null before login, and of bots
    "visitor": pl.UInt64,  # the device; null in a store
    "platform": pl.UInt8,  # place in PLATFORMS
    "visit": pl.UInt64,  # null in a store
    "item": pl.Int64,
    "qty": pl.Int64,
    "price": pl.Float64,
    "order_no": pl.UInt64,
    **_BOTH,
}
SORTED_BY = ("ts", "id")  # of rows in the log; ids are unique, so that ties have one order too
_PLACE, _VISIT, _DAY = 12, 6, 14  # bits; 32 are left for the user
AFTER = 1 << 11  # places of what comes days after the visit
ORDER, VISIT = (1 << _PLACE) - 1, (1 << _PLACE) - 2
MOST_VISITS = (1 << _VISIT) - 1  # of one user on one day


def unique_ids(seed: int, user: npt.ArrayLike, day: int, visit: npt.ArrayLike, place: npt.ArrayLike) -> Keys:
    """Return one ID per element, unique within a simulation because every step is a bijection."""
    packed = np.asarray(user).astype(np.uint64) << np.uint64(_PLACE + _VISIT + _DAY)
    packed = packed | np.uint64(day << (_PLACE + _VISIT))
    packed = packed | (np.asarray(visit).astype(np.uint64) << np.uint64(_PLACE))
    return mix((packed | np.asarray(place).astype(np.uint64)) ^ word(seed, "id"))


def _clock(milliseconds: pl.Expr) -> pl.Expr:
    return milliseconds.cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S%.3f")


def as_log(rows: pl.DataFrame, skus: pl.Series) -> pl.DataFrame:
    """Convert ROWS to LOG, as a shop would write them, in the same order. `skus` are the IDs of the articles."""
    action, platform = pl.Series(ACTIONS).gather(rows["action"]), pl.Series(PLATFORMS).gather(rows["platform"])
    return rows.select(
        pl.col("id").cast(pl.String),
        _clock(pl.col("ts")).alias("ts"),  # UTC
        _clock(pl.col("ts") + pl.col("delay")).alias("received_at"),
        pl.lit(action).alias("action"),
        ("u" + pl.col("user").cast(pl.String)).alias("customer"),
        ("d" + pl.col("visitor").cast(pl.String)).alias("visitor"),
        pl.lit(platform).alias("channel"),
        pl.col("visit").cast(pl.String),
        pl.lit(skus.gather(rows["item"])).alias("sku"),
        "qty",
        pl.col("price").cast(pl.String).alias("unit_price"),  # EUR
        pl.col("order_no").cast(pl.String),
        *_BOTH,
    )


LOG = as_log(pl.DataFrame(schema=ROWS), pl.Series(dtype=pl.String)).schema


@dataclass(frozen=True)
class Kind:
    """A kind of dirt."""

    affects: Literal["all", "priced", "review", "purchase"]  # which rows it can affect
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
    """Return for each row the index of its kind in `rates`, or -1 if it is clean."""
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
    """Return sorted ROWS with a `kind` of dirt (null if clean), after shifting times and moving rows in the file.

    `rates` gives, for each kind, its share of the rows that it can affect.
    """
    if not rates:
        return rows.with_columns(pl.lit(None, dtype=pl.String).alias("kind"))
    kind = pl.Series("kind", list(rates)).gather(pl.Series(_chosen(rows, seed, rates)).replace(_CLEAN, None))
    hours = pl.lit(pl.Series(1.0 + 47.0 * uniform(keys(seed, "dirt hours", rows["id"].to_numpy()), 0)))
    shift = (hours * _HOUR_MS).cast(pl.Int64)
    marked = rows.with_columns(pl.lit(kind).alias("kind")).with_columns(
        # Move rows within the day, because the file is written by day. A day's last row is not moved and stays clean.
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
    """Write wrong values and repeated rows to LOG; `kind` is the kind of each row."""
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
