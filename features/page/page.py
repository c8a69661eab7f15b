"""`features.html`: `features.json` and the distributions together, view by view, as one file without dependencies."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Template

from features.definitions import COMPUTED, VIEW_MEANING, VIEWS, may_show_values, readers, sentence
from features.page.distribution import Numbers, TableDistribution, table_distribution
from shoplens.templates import load_template

_WIDTH, _HEIGHT = 240, 40  # of the bars
_GAP = 1.5  # between bars
_LEAST = 1.5  # so that a bin with one value among millions is visible
_NOT_DAILY = {"user_profile": "once, as declared", "recent_events": "at the last event of each user"}
_BY_NAME = {view.name: view for view in VIEWS}


@dataclass(frozen=True)
class Section:
    """One view.

    Attributes:
        name: Of the view.
        meaning: One sentence.
        keys: Columns of its entity; none: it is computed for each request.
        rhythm: When it has a row.
        online: Whether a service may ask for it.
        owner: Whom to ask.
        rows: In its table; None: it has none.
        table: The distributions of its table; None: it has none.
        features: In the order of the table: the entries of `features.json`, with `read_by` and `distribution`.
    """

    name: str
    meaning: str
    keys: tuple[str, ...]
    rhythm: str
    online: bool
    owner: str
    rows: int | None
    table: TableDistribution | None
    features: list[dict[str, Any]]


def rhythm(name: str) -> str:
    """Return when a view has a row, for people."""
    if name not in _BY_NAME:
        return _NOT_DAILY.get(name, "computed for each request")
    every = _BY_NAME[name].every
    if every is None:
        return "only the last day"
    return "daily" if every == 1 else f"every {every} days"


def short(value: float) -> str:
    """Return a number in few characters: 0.25, 1980, 12.3k, 4.1M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}" if abs(value) >= 1e3 else f"{value:.3g}"


def share(part: float) -> str:
    """Return a share as a percentage that is 0 or 100 only if it is exactly that."""
    if part in {0.0, 1.0}:
        return f"{part:.0%}"
    if part < 0.001:
        return "< 0.1%"
    return "> 99.9%" if part > 0.999 else f"{part:.1%}"


def _bars(found: Numbers) -> str:
    """Return the bins as an SVG path."""
    step, most = _WIDTH / len(found.bins), max(found.bins)
    bars = []
    for place, count in enumerate(found.bins):
        if count:
            height = max(count / most * _HEIGHT, _LEAST)
            bars.append(f"M{place * step:.4g} {_HEIGHT}v-{height:.3g}h{step - _GAP:.4g}v{height:.3g}z")
    return "".join(bars)


def _across(found: Numbers, percentile: int) -> float:
    """Return where a percentile lies on the drawing."""
    low, high = found.bounds
    return round((min(max(found.quantiles[percentile], low), high) - low) / (high - low) * _WIDTH, 1)


def template(name: str) -> Template:
    """Return one of the templates beside this module."""
    functions = {"short": short, "share": share, "sentence": sentence, "bars": _bars, "across": _across}
    return load_template(Path(__file__).with_name(name), functions=functions)


def build_page(connection: Any, folder: Path, about: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        connection: DuckDB's own.
        folder: Holds the table of every view that has one.
        about: The content of `features.json`.
    """
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for entry in about["features"]:
        entries.setdefault(entry["view"], []).append(entry)
    order = [name for name in (*_BY_NAME, *_NOT_DAILY, *COMPUTED) if name in entries]
    sections = [_section(connection, folder, name, entries[name], about["rows"].get(name)) for name in order]
    dataset = about["dataset"]
    facts = {
        "Dataset": dataset["source"],
        "Known until": f"{datetime.fromisoformat(dataset['high_water']).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "Views": len(sections),
        "Features": sum(len(one.features) for one in sections),
        "Rows in all tables": f"{sum(one.rows or 0 for one in sections):,}",
    }
    return template("page.html").render(facts=facts, digest=dataset.get("digest"), sections=sections) + "\n"


def _section(connection: Any, folder: Path, name: str, entries: list[Mapping[str, Any]], rows: int | None) -> Section:
    view, table = _BY_NAME.get(name), None
    if name not in COMPUTED:
        units = {entry["name"]: entry["unit"] for entry in entries}
        shown = frozenset(feature for feature, unit in units.items() if may_show_values(unit))
        path = folder / f"{name}.parquet"
        table = table_distribution(connection, path, units, shown, all_rows=name in _NOT_DAILY)
    features = [
        {
            **entry,
            "read_by": readers(name, entry["name"]),
            "distribution": table.features[entry["name"]] if table else None,
        }
        for entry in entries
    ]
    keys = view.keys if view else ("user_id",) if name in _NOT_DAILY else ()
    online, owner = view.online if view else True, entries[0]["owner"]
    return Section(name, VIEW_MEANING[name], keys, rhythm(name), online, owner, rows, table, features)
