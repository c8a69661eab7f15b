"""A log as counts by day: rows, hours, names, categories, missing values, and how numbers are distributed."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from events.contract import CATEGORY_SEPARATOR, EVENT_SCHEMA

PROFILE_SCHEMA: dict[str, Any] = {"day": pl.Date, "measure": pl.String, "key": pl.String, "count": pl.Int64}
ROWS, HOUR, MISSING = "rows", "hour", "missing"
NAMES = ("event_name", "platform", "currency")
CATEGORY = "category"  # of the item, the first of its path
NUMBERS = ("price", "quantity", "amount", "dwell_seconds")
COLUMNS = [name for name in EVENT_SCHEMA if name != "attributes"]  # a list, never missing
ZERO, NEGATIVE = "zero", "negative"
BINS_AN_OCTAVE = 8  # bins of numbers are 2^(1/8), 9%, wide: any quantile is known to that
_MOST_KEYS = 200  # of a column; the rarer ones are not followed
_COLLAPSE_AT = 1 << 20


def item_categories(items: pl.DataFrame) -> pl.DataFrame:
    """Return item_id and the first part of its category's path; items without one are left out."""
    first = pl.col("category").str.split(CATEGORY_SEPARATOR).list.first()
    return items.select("item_id", first.alias(CATEGORY)).drop_nulls().unique("item_id", keep="first")


def _bin(number: pl.Expr) -> pl.Expr:
    octave = (number.log(2.0) * BINS_AN_OCTAVE).floor().cast(pl.Int64, strict=False).cast(pl.String)
    return pl.when(number > 0).then(octave).when(number == 0).then(pl.lit(ZERO)).when(number < 0).then(pl.lit(NEGATIVE))


def bin_value(key: str) -> float:
    """Return a number in the middle of a bin; a negative one stands for all of them as -1."""
    special = {ZERO: 0.0, NEGATIVE: -1.0}
    return special[key] if key in special else float(2.0 ** ((int(key) + 0.5) / BINS_AN_OCTAVE))


def _count(frame: pl.LazyFrame, measure: str, key: pl.Expr) -> pl.LazyFrame:
    grouped = frame.select("day", key.cast(pl.String).alias("key")).drop_nulls().group_by("day", "key")
    return grouped.agg(pl.len().cast(pl.Int64).alias("count")).select(
        "day", pl.lit(measure).alias("measure"), "key", "count"
    )


def _missing(frame: pl.LazyFrame) -> pl.LazyFrame:
    counted = frame.group_by("day").agg(pl.col(COLUMNS).null_count().cast(pl.Int64))
    return counted.unpivot(COLUMNS, index="day", variable_name="key", value_name="count").select(
        "day", pl.lit(MISSING).alias("measure"), "key", "count"
    )


def count_rows(events: pl.DataFrame, categories: pl.DataFrame) -> pl.DataFrame:
    """Return PROFILE_SCHEMA of some rows; those whose time cannot be true count nowhere: it would be a wrong day.

    Args:
        events: COLUMNS of the event contract.
        categories: See `item_categories`.
    """
    dated = events.lazy().filter(pl.col("event_time") <= pl.col("ingested_at"))
    frame = dated.with_columns(pl.col("event_time").dt.date().alias("day"))
    by_category = frame.select("day", "item_id").join(categories.lazy(), on="item_id")
    parts = [
        _count(frame, ROWS, pl.lit("")),
        _count(frame, HOUR, pl.col("event_time").dt.hour()),
        *(_count(frame, name, pl.col(name)) for name in NAMES),
        _count(by_category, CATEGORY, pl.col(CATEGORY)),
        *(_count(frame, name, _bin(pl.col(name))) for name in NUMBERS),
        _missing(frame),
    ]
    return pl.concat(pl.collect_all(parts))


def _sum(parts: list[pl.DataFrame]) -> pl.DataFrame:
    keys = ["day", "measure", "key"]
    return pl.concat([pl.DataFrame(schema=PROFILE_SCHEMA), *parts]).group_by(keys).agg(pl.col("count").sum()).sort(keys)


def _frequent(profile: pl.DataFrame) -> pl.DataFrame:
    """Return a profile without the keys of names and categories that are not among the most frequent."""
    totals = profile.filter(pl.col("measure").is_in([*NAMES, CATEGORY])).group_by("measure", "key").agg(pl.sum("count"))
    place = pl.struct(-pl.col("count"), "key").rank("ordinal").over("measure")
    rare = totals.filter(place > _MOST_KEYS)
    return profile.join(rare, on=["measure", "key"], how="anti", maintain_order="left")


def build_profile(frames: Iterable[pl.DataFrame], categories: pl.DataFrame) -> pl.DataFrame:
    """Return PROFILE_SCHEMA of a log that comes in pieces, sorted; equal however it is cut."""
    parts: list[pl.DataFrame] = []
    waiting = 0
    for frame in frames:
        parts.append(count_rows(frame, categories))
        waiting += parts[-1].height
        if waiting > _COLLAPSE_AT:
            parts, waiting = [_sum(parts)], 0
    return _frequent(_sum(parts))
