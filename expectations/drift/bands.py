"""Between which limits the counts of a day should lie, by what they were in the weeks before.

A day is expected to be like the same weekday of the weeks before it. How far it may be off is how far the same
prediction was off for each day of those weeks: median and robust spread (1.4826 times the median absolute deviation) of
its errors. Growth, promotions and noise that a shop always has widen the limits by themselves, one bad day does not.

Counts are compared as 2 sqrt(x + 3/8), shares as 2 sqrt(n) asin(sqrt(p)): there, counting noise alone has a spread of
1, at any level (Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial data"), so that a spread
below that is never believed. Distributions are compared by the population stability index over tenths of the reference,
as a multiple of what equal distributions would have by chance.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from expectations.drift.profile import CATEGORY, HOUR, MISSING, NAMES, NEGATIVE, NUMBERS, ROWS, ZERO

Floats = npt.NDArray[np.float64]
JUDGED_SCHEMA: dict[str, Any] = {
    "day": pl.Date,
    "measure": pl.String,
    "key": pl.String,
    "value": pl.Float64,
    "expected": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
WEEK = 7
_MOST_DAYS = 800  # before the last one; a stray event of 1970 must not make half a century of empty days
VOLUMES = {ROWS: "volume", HOUR: "volume_by_hour", "event_name": "volume_by_event_name"}
KINDS = {name: f"{name}_values" for name in (*NAMES, CATEGORY)}
SHARES = {MISSING: "missing_share"}
DISTRIBUTIONS = {name: f"{name}_distribution" for name in NUMBERS}
MEASURES = (*VOLUMES.values(), *KINDS.values(), *SHARES.values(), *DISTRIBUTIONS.values())
_MAD_TO_SPREAD = 1.4826  # of a normal distribution
_BINS = 10
# A stability index over tenths is by chance a chi-square of 9 degrees of freedom, over 9 times what chance makes of it;
# its cube root is nearly normal, with this spread (Wilson and Hilferty 1931, "The distribution of chi-square").
_INDEX_SPREAD = (2 / 9 / (_BINS - 1)) ** 0.5


@dataclass(frozen=True)
class Reference:
    """How a day is compared.

    Attributes:
        days: The days before it that count, a multiple of 14: half of them predict it, half say how predictions miss.
        tolerance: How many spreads it may be off.
    """

    days: int
    tolerance: float

    @property
    def half(self) -> int:
        """Return how many days predict one."""
        return self.days // 2


@dataclass(frozen=True)
class Counts:
    """The counts of one measure, days without any included.

    Attributes:
        first: The first day.
        keys: Sorted.
        values: (days, keys)
    """

    first: date
    keys: list[str]
    values: Floats

    def days(self) -> list[date]:
        """Return the days, in order."""
        return [self.first + timedelta(days=place) for place in range(len(self.values))]


def counts_of(profile: pl.DataFrame, measure: str) -> Counts:
    """Return the counts of a measure for every day from the first of the profile to its last."""
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
    """Return the `length` values before each place: (places - length, keys, length); place 0 is `values[length]`."""
    return (
        np.lib.stride_tricks.sliding_window_view(values[:-1], length, axis=0)
        if len(values) > length
        else (np.zeros((0, values.shape[1], length)))
    )


def _typical(values: Floats, half: int) -> Floats:
    """Return the median of the same weekday in the `half` days before each: (days, keys), nan where there are none."""
    found = np.full(values.shape, np.nan)
    found[half:] = np.median(_windows(values, half)[:, :, ::WEEK], axis=2)
    return found


def _limits(errors: Floats, reference: Reference, least: float) -> tuple[Floats, Floats]:
    """Return how much a prediction may be off, below and above, by how much it was: (days, keys) each, else nan."""
    low, high = np.full(errors.shape, np.nan), np.full(errors.shape, np.nan)
    before = _windows(errors[reference.half :], reference.half)
    middle = np.median(before, axis=2)
    spread = _MAD_TO_SPREAD * np.median(np.abs(before - middle[:, :, None]), axis=2)
    allowed = reference.tolerance * np.maximum(spread, least)
    low[reference.days :], high[reference.days :] = middle - allowed, middle + allowed
    return low, high


def _noise(reference: Reference) -> float:
    """Return the spread that counting noise gives the error of a median of some weeks: its own and the median's."""
    weeks = reference.half // WEEK
    return float(np.sqrt(1 + np.pi / 2 / weeks))


def _frame(counts: Counts, measure: str, reference: Reference, *columns: Floats) -> pl.DataFrame:
    """Return JUDGED_SCHEMA of the days with enough of them before; nan becomes null."""
    days = counts.days()[reference.days :]
    flat = [np.asarray(column[reference.days :], dtype=np.float64).ravel() for column in columns]
    values = dict(zip(("value", "expected", "low", "high"), flat, strict=True))
    content = {
        "day": np.repeat(np.array(days, dtype="datetime64[D]"), len(counts.keys)),
        "measure": [measure] * flat[0].size,
        "key": counts.keys * len(days),
        **values,
    }
    return pl.DataFrame(content, schema=JUDGED_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _from_root(root: Floats) -> Floats:
    return np.maximum((np.maximum(root, 0) / 2) ** 2 - 3 / 8, 0)


def _volumes(counts: Counts, reference: Reference) -> tuple[Floats, Floats, Floats]:
    """Return expected, low and high of counts."""
    root = 2 * np.sqrt(counts.values + 3 / 8)
    typical = _typical(root, reference.half)
    low, high = _limits(root - typical, reference, _noise(reference))
    # A count is whole: what rounds into the limits is within them.
    return _from_root(typical), np.floor(_from_root(typical + low)), np.ceil(_from_root(typical + high))


def _kinds(counts: Counts, reference: Reference) -> tuple[Floats, Floats, Floats]:
    """Return expected, low and high of counts of which it only matters whether they are there."""
    expected, low, high = _volumes(counts, reference)
    seen = np.zeros(counts.values.shape, dtype=np.bool_)
    seen[reference.days :] = _windows(counts.values, reference.days).sum(axis=2) > 0
    return expected, np.minimum(low, 1), np.where(seen, np.nan, high)


def _shares(counts: Counts, rows: Floats, reference: Reference) -> tuple[Floats, Floats, Floats, Floats]:
    """Return share, expected, low and high of counts out of the rows of a day: rows is (days, 1)."""
    share = np.divide(counts.values, rows, out=np.full(counts.values.shape, np.nan), where=rows > 0)
    angle = np.arcsin(np.sqrt((counts.values + 3 / 8) / (rows + 3 / 4)))
    typical = _typical(angle, reference.half)
    scale = 2 * np.sqrt(rows + 1 / 2)
    low, high = _limits(scale * (angle - typical), reference, _noise(reference))
    turn = np.pi / 2
    limits = [np.sin(np.clip(typical + by / scale, 0, turn)) ** 2 for by in (np.zeros_like(low), low, high)]
    # At 0 and 1 the 3/8 keep the angle off the end; the limits must not.
    margin = 3 / 8 / (rows + 3 / 4)
    return share, limits[0], np.maximum(limits[1] - margin, 0), np.minimum(limits[2] + margin, 1)


def _ordered(keys: list[str]) -> list[int]:
    """Return the places of bins in the order of their numbers."""
    rank = {NEGATIVE: -(10**6), ZERO: -(10**6) + 1}
    return sorted(range(len(keys)), key=lambda place: rank[keys[place]] if keys[place] in rank else int(keys[place]))


def _index(day: Floats, before: Floats) -> tuple[float, float]:
    """Return the population stability index of a day over tenths of what was before, and what chance makes of it.

    Args:
        day: Count of each bin, in order. (bins,)
        before: The same of the reference. (bins,)
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
    """Return index, expected, low and high of the stability of a number: (days, 1) each."""
    values = counts.values[:, _ordered(counts.keys)]
    index, chance = (np.full((len(values), 1), np.nan) for _ in range(2))
    for place in range(reference.half, len(values)):
        before = values[place - reference.half : place].sum(axis=0)
        index[place, 0], chance[place, 0] = _index(values[place], before)
    # A day without the number has no index: it counts as an ordinary one.
    root = np.cbrt(np.nan_to_num(index / chance, nan=1.0))
    _, high = _limits(root, reference, _INDEX_SPREAD)
    return index, chance, np.zeros_like(index), chance * high**3


def judge(profile: pl.DataFrame, reference: Reference) -> pl.DataFrame:
    """Return JUDGED_SCHEMA: every count, share and index of every day that has `reference.days` before it.

    A value that is missing has nothing to be judged; a limit that is missing does not bind.

    Args:
        profile: PROFILE_SCHEMA.
        reference: How days are compared.
    """
    profile = profile.filter(pl.col("day") > pl.col("day").max() - timedelta(days=_MOST_DAYS))
    rows = counts_of(profile, ROWS)
    if len(rows.values) <= reference.days:
        return pl.DataFrame(schema=JUDGED_SCHEMA)
    parts = []
    for source, measure in VOLUMES.items():
        counts = counts_of(profile, source)
        parts.append(_frame(counts, measure, reference, counts.values, *_volumes(counts, reference)))
    for source, measure in KINDS.items():
        counts = counts_of(profile, source)
        there = np.where(rows.values > 0, counts.values, np.nan)  # a day without any row says that by its volume
        parts.append(_frame(counts, measure, reference, there, *_kinds(counts, reference)))
    missing = counts_of(profile, MISSING)
    parts.append(_frame(missing, SHARES[MISSING], reference, *_shares(missing, rows.values, reference)))
    for source, measure in DISTRIBUTIONS.items():
        counts = counts_of(profile, source)
        if counts.keys:
            one = Counts(counts.first, [source], rows.values)
            parts.append(_frame(one, measure, reference, *_distribution(counts, reference)))
    return pl.concat(parts)


def outside(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of JUDGED_SCHEMA that lie outside their limits."""
    return judged.filter((pl.col("value") < pl.col("low")) | (pl.col("value") > pl.col("high")))
