"""What fell out of its season: findings, in JSON and in words."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import polars as pl

from expectations.drift.bands import DISTRIBUTIONS, MEASURES, SHARES, VOLUMES, Reference, judge, outside
from expectations.drift.profile import HOUR, NUMBERS, bin_value

What = Literal["vanished", "new", "too low", "too high"]
_ORDER = {"vanished": 0, "new": 1, "too low": 2, "too high": 3}


@dataclass(frozen=True)
class Finding:
    """One value outside its limits.

    Attributes:
        day: When.
        measure: What was counted, compared or measured.
        key: Of which hour, name, value or column; empty for the whole day.
        what: How it is outside.
        value: As it was.
        expected: As it should have been, about.
        low: The least that is within the limits; None: there is no such limit.
        high: The most.
        median: For a distribution, the median of the day and of the days before, to 9%.
    """

    day: date
    measure: str
    key: str
    what: What
    value: float
    expected: float
    low: float | None
    high: float | None
    median: tuple[float, float] | None = None

    def line(self) -> str:
        """Return it in words."""
        name = f"{self.measure}({self.key})" if self.key else self.measure
        shift = f"; median {self.median[0]:.4g}, before {self.median[1]:.4g}" if self.median else ""
        return f"{self.day} {name} {self.what}: {self._number(self.value)}, ordinary is {self._ordinary()}{shift}"

    def _ordinary(self) -> str:
        if self.high is None:
            return f"{self._number(self.low or 0)} or more"
        if not self.low:
            return f"at most {self._number(self.high)}"
        return f"{self._number(self.low)} to {self._number(self.high)}"

    def _number(self, value: float) -> str:
        return f"{value:,.0f}" if self.measure not in (*SHARES.values(), *DISTRIBUTIONS.values()) else f"{value:.3g}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("value", "expected", "low", "high")}
        median = None if self.median is None else [_rounded(value) for value in self.median]
        return {
            "day": str(self.day),
            "measure": self.measure,
            "key": self.key,
            "what": self.what,
            **numbers,
            "median": median,
        }


@dataclass(frozen=True)
class Drift:
    """What was judged and what was found.

    Attributes:
        reference: How days are compared.
        judged: JUDGED_SCHEMA of every day that could be.
        days: Those of them that a run answers for.
        findings: Of `days`, the plainest first within a day.
        earlier: The same of all other days.
    """

    reference: Reference
    judged: pl.DataFrame
    days: list[date]
    findings: list[Finding]
    earlier: list[Finding]

    def of_days(self) -> pl.DataFrame:
        """Return JUDGED_SCHEMA of the days that a run answers for."""
        return self.judged.filter(pl.col("day").is_in(self.days))

    def as_json(self) -> dict[str, Any]:
        """Return plain values, the same for the same counts."""
        return {
            "reference_days": self.reference.days,
            "tolerance": self.reference.tolerance,
            "days": [str(day) for day in self.days],
            "checks": self.of_days().height,
            "findings": [found.as_json() for found in self.findings],
            "other_days": {
                "days": self.judged["day"].n_unique() - len(self.days),
                "flagged": sorted({str(found.day) for found in self.earlier}),
            },
        }

    def lines(self, most: int = 12) -> list[str]:
        """Return what was found in words, some `most` lines."""
        if not self.days:
            return [f"drift: no day has {self.reference.days} days before it; nothing to compare with"]
        span = f"{self.days[0]} to {self.days[-1]}" if len(self.days) > 1 else str(self.days[0])
        head = f"drift: {self.of_days().height:,} checks of {span}, {len(self.findings):,} outside their season"
        more = [f"  and {len(self.findings) - most:,} more"] if len(self.findings) > most else []
        return [head, *(f"  {found.line()}" for found in self.findings[:most]), *more]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _what(row: dict[str, Any]) -> What:
    counted = row["measure"] not in (*SHARES.values(), *DISTRIBUTIONS.values())
    if row["low"] is not None and row["value"] < row["low"]:
        return "vanished" if counted and row["value"] == 0 else "too low"
    return "new" if counted and row["measure"] not in VOLUMES.values() else "too high"


def _median(counts: pl.DataFrame) -> float | None:
    """Return the median of a number out of its bins."""
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


def _findings(profile: pl.DataFrame, judged: pl.DataFrame, half: int) -> list[Finding]:
    rows = outside(judged).to_dicts()
    found = [Finding(**row, what=_what(row), median=_medians(profile, row, half)) for row in rows]
    return sorted(found, key=lambda one: (one.day, _ORDER[one.what], MEASURES.index(one.measure), one.key))


def last_finished_day(profile: pl.DataFrame) -> date | None:
    """Return the last day of a log, or the one before where its last hour has nothing: it has not ended yet."""
    last = profile["day"].max()
    if not isinstance(last, date):
        return None
    mine = (pl.col("day") == last) & (pl.col("measure") == HOUR) & (pl.col("key") == "23")
    return last if not profile.filter(mine).is_empty() else last - timedelta(days=1)


def find_drift(profile: pl.DataFrame, reference: Reference, first: date, last: date) -> Drift:
    """Judge a log by its counts.

    Args:
        profile: PROFILE_SCHEMA, as far back as it goes.
        reference: How days are compared.
        first: The first day that a run answers for.
        last: The last one; later days of the profile are left out.
    """
    until = profile.filter(pl.col("day") <= last)
    judged = judge(until, reference)
    findings = _findings(until, judged, reference.half)
    days = [day for day in judged["day"].unique().sort().to_list() if day >= first]
    mine = [found for found in findings if found.day >= first]
    return Drift(reference, judged, days, mine, [found for found in findings if found.day < first])
