"""Drift findings: which values lie outside their limits, as JSON, as text, and as an HTML page that loads nothing."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl

from expectations.drift import (
    DISTRIBUTIONS,
    HOUR,
    MEASURES,
    NUMBERS,
    SHARES,
    VOLUMES,
    Reference,
    bin_value,
    compare_days,
    outside_limits,
)
from shoplens.templates import load_template

What = Literal["vanished", "new", "too low", "too high"]
_ORDER = ("vanished", "new", "too low", "too high")
_RATIOS = (*SHARES.values(), *DISTRIBUTIONS.values())  # measures that are not counts


@dataclass(frozen=True)
class Finding:
    """One value outside its limits."""

    day: date  # the day
    measure: str  # one of `bands.MEASURES`
    key: str  # the hour, name, value or column that was counted; empty for the whole day
    what: What  # how the value deviates
    value: float  # the observed value
    expected: float  # the predicted value
    low: float | None  # lower limit, None if there is none
    high: float | None  # upper limit, None if there is none
    # for a distribution, the median of the day and of the reference period, accurate to 9%
    median: tuple[float, float] | None = None

    def line(self) -> str:
        """Return a one-line description."""
        name = f"{self.measure}({self.key})" if self.key else self.measure
        shift = f"; median {self.median[0]:.4g}, previously {self.median[1]:.4g}" if self.median else ""
        return f"{self.day} {name} {self.what}: {self._number(self.value)}, expected {self._limits()}{shift}"

    def _limits(self) -> str:
        if self.high is None:
            return f"{self._number(self.low or 0)} or more"
        if not self.low:
            return f"at most {self._number(self.high)}"
        return f"{self._number(self.low)} to {self._number(self.high)}"

    def _number(self, value: float) -> str:
        return f"{value:.3g}" if self.measure in _RATIOS else f"{value:,.0f}"

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("value", "expected", "low", "high")}
        median = None if self.median is None else [_rounded(value) for value in self.median]
        return asdict(self) | {"day": str(self.day), **numbers, "median": median}


@dataclass(frozen=True)
class Drift:
    """The result of drift detection."""

    reference: Reference  # how days are compared
    comparisons: pl.DataFrame  # COMPARISON_SCHEMA for every day with a full reference period
    days: list[date]  # the days that this run reports on
    findings: list[Finding]  # findings on `days`, sorted by day and severity
    earlier: list[Finding]  # findings on all other days

    def reported(self) -> pl.DataFrame:
        """Return the comparisons of the days that this run reports on."""
        return self.comparisons.filter(pl.col("day").is_in(self.days))

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values, identical for identical counts."""
        return {
            "reference_days": self.reference.days,
            "tolerance": self.reference.tolerance,
            "days": [str(day) for day in self.days],
            "checks": self.reported().height,
            "findings": [found.as_json() for found in self.findings],
            "other_days": {
                "days": self.comparisons["day"].n_unique() - len(self.days),
                "flagged": sorted({str(found.day) for found in self.earlier}),
            },
        }

    def lines(self, most: int = 12) -> list[str]:
        """Return a summary line and at most `most` findings, as text."""
        if not self.days:
            return [f"drift: not checked; no day has the {self.reference.days} preceding days it is compared with"]
        span = f"{self.days[0]} to {self.days[-1]}" if len(self.days) > 1 else str(self.days[0])
        head = f"drift: {self.reported().height:,} checks of {span}, {len(self.findings):,} values outside their limits"
        more = [f"  and {len(self.findings) - most:,} more"] if len(self.findings) > most else []
        return [head, *(f"  {found.line()}" for found in self.findings[:most]), *more]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _what(row: dict[str, Any]) -> What:
    counted = row["measure"] not in _RATIOS
    if row["low"] is not None and row["value"] < row["low"]:
        return "vanished" if counted and row["value"] == 0 else "too low"
    return "new" if counted and row["measure"] not in VOLUMES.values() else "too high"


def _median(counts: pl.DataFrame) -> float | None:
    """Return the median of a number from its histogram."""
    if counts.is_empty():
        return None
    bins = counts.with_columns(pl.col("key").map_elements(bin_value, return_dtype=pl.Float64).alias("at")).sort("at")
    half = bins["count"].sum() / 2
    return float(bins.filter(pl.col("count").cum_sum() >= half)["at"][0])


def _medians(profile: pl.DataFrame, found: dict[str, Any], half: int) -> tuple[float, float] | None:
    if found["key"] not in NUMBERS or found["measure"] not in DISTRIBUTIONS.values():
        return None
    mine = profile.filter(pl.col("measure") == found["key"])
    start = found["day"] - timedelta(days=half)
    now = _median(mine.filter(pl.col("day") == found["day"]))
    before = mine.filter((pl.col("day") >= start) & (pl.col("day") < found["day"]))
    was = _median(before.group_by("key").agg(pl.col("count").sum()))
    return None if now is None or was is None else (now, was)


def last_complete_day(profile: pl.DataFrame) -> date | None:
    """Return the last complete day of a log: a day without events in its last hour is still in progress."""
    last = profile["day"].max()
    if not isinstance(last, date):
        return None
    mine = (pl.col("day") == last) & (pl.col("measure") == HOUR) & (pl.col("key") == "23")
    return last if not profile.filter(mine).is_empty() else last - timedelta(days=1)


def find_drift(profile: pl.DataFrame, reference: Reference, first: date, last: date) -> Drift:
    """Compare the days of a log and split the findings into those from `first` to `last` and earlier ones.

    `profile` is that of the complete log, PROFILE_SCHEMA; its days after `last` are ignored.
    """
    until = profile.filter(pl.col("day") <= last)
    comparisons = compare_days(until, reference)
    rows = outside_limits(comparisons).to_dicts()
    findings = [Finding(**row, what=_what(row), median=_medians(until, row, reference.half)) for row in rows]
    findings.sort(key=lambda one: (one.day, _ORDER.index(one.what), MEASURES.index(one.measure), one.key))
    days = [day for day in comparisons["day"].unique().sort().to_list() if day >= first]
    reported = [found for found in findings if found.day >= first]
    return Drift(reference, comparisons, days, reported, [found for found in findings if found.day < first])


_SIZES = {"width": 960, "height": 190, "left": 70, "most_rows": 200}  # of a drawing; rows of a table of findings
_BOTTOM, _TOP = 22, 10


def _drawing(rows: pl.DataFrame, title: str) -> dict[str, Any] | None:
    """Return the plot of a value over time: a line, its limits as a band, and dots for the days outside them."""
    rows = rows.drop_nulls("value").sort("day")
    if rows.is_empty():
        return None
    days: list[date] = rows["day"].to_list()
    limit = rows.select(pl.min_horizontal(pl.col("high").quantile(0.95), pl.col("value").max() * 2)).item()
    most: float = max(rows.select(pl.col("value").max()).item(), limit or 0, 1e-9)
    width, base = _SIZES["width"] - _SIZES["left"] - 8, _SIZES["height"] - _BOTTOM

    def across(day: date) -> float:
        return round(_SIZES["left"] + (day - days[0]).days / max((days[-1] - days[0]).days, 1) * width, 1)

    def up(value: float | None, missing: float = 0.0) -> float:
        shown = missing if value is None else max(value, 0.0)
        return round(base - min(shown / most, 1.0) * (base - _TOP), 1)

    def points(places: Iterable[tuple[date, float]]) -> str:
        return " ".join(f"{across(day)},{y}" for day, y in places)

    high = [(day, up(value, most)) for day, value in rows.select("day", "high").iter_rows()]
    low = [(day, up(value)) for day, value in rows.select("day", "low").iter_rows()]
    values = list(rows.select("day", "value").iter_rows())
    marks = zip((days[0], days[len(days) // 2], days[-1]), ("start", "middle", "end"), strict=True)
    return {
        "title": title,
        "band": points([*high, *reversed(low)]),
        "line": points((day, up(value)) for day, value in values),
        "outside": [(across(d), up(v), d, v) for d, v in outside_limits(rows).select("day", "value").iter_rows()],
        "days": [(across(day), day, anchor) for day, anchor in marks],
        "lines": [(up(v), f"{v:,.4g}" if v < 10_000 else f"{v:,.0f}") for v in (0.0, most / 2, most)],
    }


def _measures_to_draw(drift: Drift) -> list[tuple[str, str]]:
    """Return (measure, key): volumes and distributions always, other measures where a value is outside its limits."""
    always = [name for measure, name in VOLUMES.items() if measure != HOUR] + list(DISTRIBUTIONS.values())
    drawn = drift.comparisons.filter(pl.col("measure").is_in(always)).select("measure", "key").unique()
    pairs = sorted(drawn.iter_rows(), key=lambda pair: (always.index(pair[0]), pair[1]))
    return [*pairs, *sorted({(f.measure, f.key) for f in [*drift.findings, *drift.earlier]} - set(pairs))]


def build_page(drift: Drift, source: str) -> str:
    """Return the page as HTML."""
    drawings = []
    for measure, key in _measures_to_draw(drift):
        name = "share of missing values" if measure in SHARES.values() else measure.replace("_", " ")
        rows = drift.comparisons.filter((pl.col("measure") == measure) & (pl.col("key") == key))
        drawings.append(_drawing(rows, f"{name}: {key or 'events per day'}"))
    return load_template(Path(__file__).with_name("drift_page.html"), functions=_SIZES).render(
        source=source,
        summary=drift.lines(0)[0],
        half=drift.reference.half,
        tolerance=drift.reference.tolerance,
        findings=drift.findings,
        earlier=drift.earlier,
        drawings=[one for one in drawings if one],
    )
