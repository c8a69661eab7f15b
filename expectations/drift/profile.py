"""Profile of a log: daily counts of rows, hours, names, categories and missing values, and histograms of numbers."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from events.contract import CATEGORY_SEPARATOR, EVENT_SCHEMA

PROFILE_SCHEMA: dict[str, Any] = {"day": pl.Date, "measure": pl.String, "key": pl.String, "count": pl.Int64}
ROWS, HOUR, MISSING = "rows", "hour", "missing"
NAMES = ("event_name", "platform", "currency")
CATEGORY = "category"  # of the item: the first level of its path
NUMBERS = ("price", "quantity", "amount", "dwell_seconds")
COLUMNS = [name for name in EVENT_SCHEMA if name != "attributes"]  # attributes is a list and never missing
ZERO, NEGATIVE = "zero", "negative"
BINS_PER_OCTAVE = 8  # a bin is a factor of 2^(1/8) wide, so quantiles are exact to 9%
_MOST_KEYS = 200  # per column; rarer keys are ignored
_COLLAPSE_AT = 1 << 20


def item_categories(items: pl.DataFrame) -> pl.DataFrame:
    """Return item_id and the first level of its category path; items without a category are left out."""
    first = pl.col("category").str.split(CATEGORY_SEPARATOR).list.first()
    return items.select("item_id", first.alias(CATEGORY)).drop_nulls().unique("item_id", keep="first")


def _bin(number: pl.Expr) -> pl.Expr:
    octave = (number.log(2.0) * BINS_PER_OCTAVE).floor().cast(pl.Int64, strict=False).cast(pl.String)
    return pl.when(number > 0).then(octave).when(number == 0).then(pl.lit(ZERO)).when(number < 0).then(pl.lit(NEGATIVE))


def bin_value(key: str) -> float:
    """Return the number in the middle of a bin; the bin of all negative numbers is represented by -1."""
    special = {ZERO: 0.0, NEGATIVE: -1.0}
    return special[key] if key in special else float(2.0 ** ((int(key) + 0.5) / BINS_PER_OCTAVE))


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
    """Return PROFILE_SCHEMA for a batch of events (COLUMNS) and the `item_categories`.

    Events that were ingested before they happened are not counted: their day is wrong.
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
    """Return the profile without the rarer keys of names and categories."""
    totals = profile.filter(pl.col("measure").is_in([*NAMES, CATEGORY])).group_by("measure", "key").agg(pl.sum("count"))
    rank = pl.struct(-pl.col("count"), "key").rank("ordinal").over("measure")
    rare = totals.filter(rank > _MOST_KEYS)
    return profile.join(rare, on=["measure", "key"], how="anti", maintain_order="left")


def build_profile(frames: Iterable[pl.DataFrame], categories: pl.DataFrame) -> pl.DataFrame:
    """Return the sorted PROFILE_SCHEMA of a log read in batches; the result does not depend on the batch size."""
    parts: list[pl.DataFrame] = []
    pending = 0
    for frame in frames:
        parts.append(count_rows(frame, categories))
        pending += parts[-1].height
        if pending > _COLLAPSE_AT:
            parts, pending = [_sum(parts)], 0
    return _frequent(_sum(parts))
