"""A page of what was counted and between which limits, which needs nothing else: `index.html` with drawings in it."""

from dataclasses import dataclass
from datetime import date
from html import escape

import polars as pl

from expectations.drift.bands import DISTRIBUTIONS, SHARES, VOLUMES
from expectations.drift.profile import HOUR
from expectations.drift.report import Drift, Finding

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 190, 70, 22, 10
_MOST_ROWS = 200  # of the table of findings
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1020px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.1em;margin:1.6em 0 .2em}svg{width:100%;height:auto}
.band{fill:#cfe3f5}.line{fill:none;stroke:#1f5f9e;stroke-width:1.3}.out{fill:#c62828}.axis{stroke:#bbb}
text{font-size:11px;fill:#555}table{border-collapse:collapse;width:100%;font-size:13px}
td,th{text-align:left;padding:3px 8px;border-bottom:1px solid #e5e5e5}td.n,th.n{text-align:right}
.none{color:#2e7d32}
"""


@dataclass(frozen=True)
class _Scale:
    """Where a day and a value lie on a drawing."""

    first: date
    days: int
    most: float

    def across(self, day: date) -> float:
        return round(_LEFT + (day - self.first).days / max(self.days, 1) * (_WIDTH - _LEFT - 8), 1)

    def up(self, value: float) -> float:
        room = _HEIGHT - _BOTTOM - _TOP
        return round(_HEIGHT - _BOTTOM - min(value / self.most, 1.0) * room, 1)


def _text(across: float, up: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{across}" y="{up}" text-anchor="{anchor}">{escape(text)}</text>'


def _axes(scale: _Scale, days: list[date]) -> list[str]:
    marks = [days[0], days[len(days) // 2], days[-1]]
    ends = ("start", "middle", "end")
    labels = [_text(scale.across(d), _HEIGHT - 6, str(d), at) for d, at in zip(marks, ends, strict=True)]
    lines = []
    for value in (0.0, scale.most / 2, scale.most):
        height = scale.up(value)
        lines.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{height}" y2="{height}"/>')
        labels.append(_text(_LEFT - 6, height + 4, f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}", "end"))
    return [*lines, *labels]


def _drawing(rows: pl.DataFrame, title: str) -> str:
    """Return an SVG of one value over time: its limits as a band, itself as a line, days outside as red dots."""
    rows = rows.drop_nulls("value").sort("day")
    if rows.is_empty():
        return ""
    days: list[date] = rows["day"].to_list()
    limit = rows.select(pl.min_horizontal(pl.col("high").quantile(0.95), pl.col("value").max() * 2)).item()
    scale = _Scale(days[0], (days[-1] - days[0]).days, max(rows.select(pl.col("value").max()).item(), limit or 0, 1e-9))
    high = [f"{scale.across(r['day'])},{scale.up(_or(r['high'], scale.most))}" for r in rows.iter_rows(named=True)]
    low = [f"{scale.across(r['day'])},{scale.up(_or(r['low'], 0))}" for r in rows.iter_rows(named=True)]
    line = [f"{scale.across(r['day'])},{scale.up(r['value'])}" for r in rows.iter_rows(named=True)]
    out = rows.filter((pl.col("value") < pl.col("low")) | (pl.col("value") > pl.col("high")))
    dots = [
        f'<circle class="out" r="4" cx="{scale.across(r["day"])}" cy="{scale.up(r["value"])}">'
        f"<title>{r['day']}: {r['value']:,.6g}</title></circle>"
        for r in out.iter_rows(named=True)
    ]
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<polygon class="band" points="{" ".join([*high, *reversed(low)])}"/>',
        *_axes(scale, days),
        f'<polyline class="line" points="{" ".join(line)}"/>',
        *dots,
        "</svg>",
    ]
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def _or(value: float | None, instead: float) -> float:
    return instead if value is None else max(value, 0.0)


def _table(findings: list[Finding]) -> str:
    if not findings:
        return '<p class="none">Every value lies within its limits.</p>'
    head = "<tr><th>day</th><th>what</th><th>measure</th><th>of</th><th class=n>value</th><th class=n>expected</th>"
    head += "<th class=n>low</th><th class=n>high</th></tr>"
    rows = []
    for one in findings[:_MOST_ROWS]:
        numbers = ["" if n is None else f"{n:,.5g}" for n in (one.value, one.expected, one.low, one.high)]
        cells = "".join(f"<td class=n>{number}</td>" for number in numbers)
        words = "".join(f"<td>{escape(text)}</td>" for text in (str(one.day), one.what, one.measure, one.key))
        rows.append(f"<tr>{words}{cells}</tr>")
    left = len(findings) - _MOST_ROWS
    more = f"<p>and {left:,} more.</p>" if left > 0 else ""
    return f"<table>{head}{''.join(rows)}</table>{more}"


def _shown(drift: Drift) -> list[tuple[str, str]]:
    """Return (measure, key) of what is drawn: volumes, distributions, and whatever fell out."""
    always = [name for measure, name in VOLUMES.items() if measure != HOUR] + list(DISTRIBUTIONS.values())
    drawn = (
        drift.comparisons.filter(pl.col("measure").is_in(always))
        .select("measure", "key")
        .unique()
        .sort("measure", "key")
    )
    seen = [(measure, key) for measure, key in drawn.iter_rows()]
    others = sorted({(f.measure, f.key) for f in [*drift.findings, *drift.earlier]} - set(seen))
    return [*sorted(seen, key=lambda one: always.index(one[0])), *others]


def _title(measure: str, key: str) -> str:
    name = measure.replace("_", " ")
    if measure in SHARES.values():
        name = "share of missing values"
    return f"{name}: {key}" if key else f"{name}: events a day"


def build_page(drift: Drift, source: str) -> str:
    """Return the page as HTML."""
    drawings = []
    for measure, key in _shown(drift):
        mine = drift.comparisons.filter((pl.col("measure") == measure) & (pl.col("key") == key))
        drawings.append(_drawing(mine, _title(measure, key)))
    head = drift.lines(0)[0]
    half = drift.reference.half
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ShopLens: drift</title><style>{_STYLE}</style></head><body>
<h1>Does the log look like its season?</h1>
<p>{escape(source)}. {escape(head)}.</p>
<p>Blue: the value of a day. Band: where it should lie by the same weekday of the {half} days before, give or take
{drift.reference.tolerance:g} times how far that prediction is usually off. Red: outside.</p>
{_table(drift.findings)}
{"".join(drawings)}
<h2>Other days outside their season</h2>
{_table(drift.earlier)}
</body></html>
"""
