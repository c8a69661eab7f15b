"""A page of what was counted and between which limits: one HTML file with its drawings, which loads nothing."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from expectations.drift.bands import DISTRIBUTIONS, SHARES, VOLUMES, outside_limits
from expectations.drift.profile import HOUR
from expectations.drift.report import Drift
from shoplens.templates import load_template

_SIZES = {"width": 960, "height": 190, "left": 70, "most_rows": 200}  # of a drawing; rows of a table of findings
_BOTTOM, _TOP = 22, 10


def _drawing(rows: pl.DataFrame, title: str) -> dict[str, Any] | None:
    """Return the places of one value over time: its limits as a band, itself as a line, the days outside as dots."""
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
        "values": points((day, up(value)) for day, value in values),
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


def _title(measure: str, key: str) -> str:
    name = "share of missing values" if measure in SHARES.values() else measure.replace("_", " ")
    return f"{name}: {key}" if key else f"{name}: events per day"


def build_page(drift: Drift, source: str) -> str:
    """Return the page as HTML."""
    comparisons = drift.comparisons
    drawings = (
        _drawing(comparisons.filter((pl.col("measure") == measure) & (pl.col("key") == key)), _title(measure, key))
        for measure, key in _measures_to_draw(drift)
    )
    return load_template(Path(__file__).with_name("page.html"), functions=_SIZES).render(
        source=source,
        summary=drift.lines(0)[0],
        half=drift.reference.half,
        tolerance=drift.reference.tolerance,
        findings=drift.findings,
        earlier=drift.earlier,
        drawings=[one for one in drawings if one],
    )
