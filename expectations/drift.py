"""Drift: daily counts of a log, compared with the same weekday in the preceding weeks.

Counts are additive, so a log of any size is counted in one streaming pass. The expected value of a day is the median of
the same weekday in the preceding weeks. The tolerated deviation comes from the errors that this prediction made in
those weeks: their median and robust spread (1.4826 times the median absolute deviation). Growth, promotions and a
shop's usual noise therefore widen the limits; a single bad day does not.

Counts are compared as 2 sqrt(x + 3/8) and shares as 2 sqrt(n) asin(sqrt(p)). On these scales counting noise has a
standard deviation of 1 at any level (Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial
data"), which is the smallest spread that is used. Distributions are compared by the population stability index over
deciles of the reference, relative to its expected value for two samples of one distribution.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
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


Floats = npt.NDArray[np.float64]
COMPARISON_SCHEMA: dict[str, Any] = {
    "day": pl.Date,
    "measure": pl.String,
    "key": pl.String,
    "value": pl.Float64,
    "expected": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
WEEK = 7
_MOST_DAYS = 800  # up to the last day: one event dated 1970 must not create half a century of empty days
VOLUMES = {ROWS: "volume", HOUR: "volume_by_hour", "event_name": "volume_by_event_name"}
KINDS = {name: f"{name}_values" for name in (*NAMES, CATEGORY)}
SHARES = {MISSING: "missing_share"}
DISTRIBUTIONS = {name: f"{name}_distribution" for name in NUMBERS}
MEASURES = (*VOLUMES.values(), *KINDS.values(), *SHARES.values(), *DISTRIBUTIONS.values())
_MAD_TO_SPREAD = 1.4826  # of a normal distribution
_BINS = 10
# Without drift, index / expected index is approximately chi-square with 9 degrees of freedom, divided by 9. Its cube
# root is nearly normal with this standard deviation (Wilson and Hilferty 1931, "The distribution of chi-square").
_INDEX_SPREAD = (2 / 9 / (_BINS - 1)) ** 0.5


@dataclass(frozen=True)
class Reference:
    """How a day is compared with the days before it."""

    # number of preceding days used, a multiple of 14: one half predicts the day, the other half measures the prediction
    # errors
    days: int
    tolerance: float  # allowed deviation, in multiples of the spread of the prediction errors

    @property
    def half(self) -> int:
        """The number of days that a prediction is based on."""
        return self.days // 2

    @property
    def noise(self) -> float:
        """The spread of a prediction error that is due to counting noise alone, of the day and of the median."""
        return float(np.sqrt(1 + np.pi / 2 / (self.half // WEEK)))


@dataclass(frozen=True)
class Counts:
    """Daily counts of one measure, including days without any."""

    first: date  # the first day
    keys: list[str]  # sorted keys
    values: Floats  # counts, (days, keys)


def counts_of(profile: pl.DataFrame, measure: str) -> Counts:
    """Return the counts of a measure for every day from the first to the last day of the profile."""
    first, last = profile["day"].min(), profile["day"].max()
    if not isinstance(first, date) or not isinstance(last, date):
        return Counts(date.min, [], np.zeros((0, 0)))
    mine = profile.filter(pl.col("measure") == measure)
    keys = mine["key"].unique().sort().to_list()
    values = np.zeros(((last - first).days + 1, len(keys)))
    rows = (mine["day"] - first).dt.total_days().to_numpy()
    columns = mine["key"].replace_strict(keys, range(len(keys)), return_dtype=pl.Int64).to_numpy() if keys else rows
    values[rows, columns] = mine["count"].to_numpy()
    return Counts(first, keys, values)


def _windows(values: Floats, length: int) -> Floats:
    """Return the `length` values before each of `values[length:]`: (days - length, keys, length)."""
    if len(values) <= length:
        return np.zeros((0, values.shape[1], length))
    return np.lib.stride_tricks.sliding_window_view(values[:-1], length, axis=0)


def _typical(values: Floats, half: int) -> Floats:
    """Return the median of the same weekday in the preceding `half` days: (days, keys), NaN for the first `half`."""
    found = np.full(values.shape, np.nan)
    found[half:] = np.median(_windows(values, half)[:, :, ::WEEK], axis=2)
    return found


def _limits(errors: Floats, reference: Reference, least: float) -> tuple[Floats, Floats]:
    """Return the lowest and highest tolerated prediction error, given past errors: (days, keys) each, or NaN."""
    low, high = np.full(errors.shape, np.nan), np.full(errors.shape, np.nan)
    before = _windows(errors[reference.half :], reference.half)
    middle = np.median(before, axis=2)
    spread = _MAD_TO_SPREAD * np.median(np.abs(before - middle[:, :, None]), axis=2)
    allowed = reference.tolerance * np.maximum(spread, least)
    low[reference.days :], high[reference.days :] = middle - allowed, middle + allowed
    return low, high


def _frame(counts: Counts, measure: str, reference: Reference, *columns: Floats) -> pl.DataFrame:
    """Return COMPARISON_SCHEMA for the days with a full reference period; NaN becomes null."""
    days = [counts.first + timedelta(days=offset) for offset in range(reference.days, len(counts.values))]
    flat = [np.asarray(column[reference.days :], dtype=np.float64).ravel() for column in columns]
    content = {
        "day": np.repeat(np.array(days, dtype="datetime64[D]"), len(counts.keys)),
        "measure": [measure] * flat[0].size,
        "key": counts.keys * len(days),
        **dict(zip(("value", "expected", "low", "high"), flat, strict=True)),
    }
    return pl.DataFrame(content, schema=COMPARISON_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _from_root(root: Floats) -> Floats:
    return np.maximum((np.maximum(root, 0) / 2) ** 2 - 3 / 8, 0)


def _volumes(counts: Counts, reference: Reference) -> tuple[Floats, Floats, Floats]:
    """Return (expected, low, high) for counts."""
    root = 2 * np.sqrt(counts.values + 3 / 8)
    typical = _typical(root, reference.half)
    low, high = _limits(root - typical, reference, reference.noise)
    # Counts are whole numbers, so limits are rounded outwards.
    return _from_root(typical), np.floor(_from_root(typical + low)), np.ceil(_from_root(typical + high))


def _kinds(counts: Counts, reference: Reference) -> tuple[Floats, Floats, Floats]:
    """Return (expected, low, high) for keys of which only presence or absence matters."""
    expected, low, high = _volumes(counts, reference)
    seen = np.zeros(counts.values.shape, dtype=np.bool_)
    seen[reference.days :] = _windows(counts.values, reference.days).sum(axis=2) > 0
    return expected, np.minimum(low, 1), np.where(seen, np.nan, high)


def _shares(counts: Counts, rows: Floats, reference: Reference) -> tuple[Floats, Floats, Floats, Floats]:
    """Return (share, expected, low, high) for counts as shares of the rows of their day; rows is (days, 1)."""
    share = np.divide(counts.values, rows, out=np.full(counts.values.shape, np.nan), where=rows > 0)
    angle = np.arcsin(np.sqrt((counts.values + 3 / 8) / (rows + 3 / 4)))
    typical = _typical(angle, reference.half)
    scale = 2 * np.sqrt(rows + 1 / 2)
    low, high = _limits(scale * (angle - typical), reference, reference.noise)
    turn = np.pi / 2
    limits = [np.sin(np.clip(typical + by / scale, 0, turn)) ** 2 for by in (np.zeros_like(low), low, high)]
    # The offset of 3/8 keeps the angle away from 0 and 1; the limits must be able to reach them.
    margin = 3 / 8 / (rows + 3 / 4)
    return share, limits[0], np.maximum(limits[1] - margin, 0), np.minimum(limits[2] + margin, 1)


def _index(day: Floats, before: Floats) -> tuple[float, float]:
    """Return the population stability index over deciles of the reference, and its expected value without drift.

    Counts per ascending bin of the day and of the reference period: (bins,) each.
    """
    total, now = before.sum(), day.sum()
    if total == 0 or now == 0:
        return np.nan, np.nan
    tenth = np.minimum((np.cumsum(before) - before / 2) / total * _BINS, _BINS - 1).astype(np.int64)
    was = np.bincount(tenth, before, minlength=_BINS) + 0.5
    is_now = np.bincount(tenth, day, minlength=_BINS) + 0.5
    share_was, share_now = was / was.sum(), is_now / is_now.sum()
    index = float(((share_now - share_was) * np.log(share_now / share_was)).sum())
    return index, (_BINS - 1) * (1 / now + 1 / total)


def _distribution(counts: Counts, reference: Reference) -> tuple[Floats, Floats, Floats, Floats]:
    """Return (index, expected, low, high) for the distribution of a number: (days, 1) each."""
    ascending = sorted(range(len(counts.keys)), key=lambda index: bin_value(counts.keys[index]))
    values = counts.values[:, ascending]
    index, expected = (np.full((len(values), 1), np.nan) for _ in range(2))
    for day in range(reference.half, len(values)):
        index[day, 0], expected[day, 0] = _index(values[day], values[day - reference.half : day].sum(axis=0))
    # A day without the number has no index and counts as a typical day.
    root = np.cbrt(np.nan_to_num(index / expected, nan=1.0))
    _, high = _limits(root, reference, _INDEX_SPREAD)
    return index, expected, np.zeros_like(index), expected * high**3


def compare_days(profile: pl.DataFrame, reference: Reference) -> pl.DataFrame:
    """Compare every count, share and index of each day that has `reference.days` days before it with its limits.

    Returns COMPARISON_SCHEMA: a null value is not compared; a null limit does not apply.
    """
    profile = profile.filter(pl.col("day") > pl.col("day").max() - timedelta(days=_MOST_DAYS))
    rows = counts_of(profile, ROWS)
    if len(rows.values) <= reference.days:
        return pl.DataFrame(schema=COMPARISON_SCHEMA)
    parts = []
    for source, measure in VOLUMES.items():
        counts = counts_of(profile, source)
        parts.append(_frame(counts, measure, reference, counts.values, *_volumes(counts, reference)))
    for source, measure in KINDS.items():
        counts = counts_of(profile, source)
        present = np.where(rows.values > 0, counts.values, np.nan)  # the volume already reports a day without rows
        parts.append(_frame(counts, measure, reference, present, *_kinds(counts, reference)))
    missing = counts_of(profile, MISSING)
    parts.append(_frame(missing, SHARES[MISSING], reference, *_shares(missing, rows.values, reference)))
    for source, measure in DISTRIBUTIONS.items():
        counts = counts_of(profile, source)
        if counts.keys:
            one = Counts(counts.first, [source], rows.values)
            parts.append(_frame(one, measure, reference, *_distribution(counts, reference)))
    return pl.concat(parts)


def outside_limits(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of COMPARISON_SCHEMA whose value lies outside its limits."""
    return comparisons.filter((pl.col("value") < pl.col("low")) | (pl.col("value") > pl.col("high")))
