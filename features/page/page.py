"""`features.html`, the feature catalogue: each feature's meaning, owner and distribution.

It is one self-contained file, built from `features.json` and the tables by the stage that wrote them. Statistics are
exact and cover one snapshot. Numbers are read one column at a time; DuckDB counts texts, and may spill to disk. The
page never shows text that a person typed or stated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Template
from numpy.typing import NDArray

from features.definitions import COMPUTED, VIEW_MEANING, VIEWS, may_show_values, readers, sentence
from features.engine.engines import quoted
from shoplens.templates import load_template

BINS = 24
MOST_TEXTS = 8
_PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
_WIDTH, _HEIGHT = 240, 40  # of the histogram
_GAP = 1.5  # between bars
_LEAST = 1.5  # keeps a bin with one value among millions visible
_NOT_DAILY = {"user_profile": "once, as declared", "recent_events": "at the last event of each user"}
_BY_NAME = {view.name: view for view in VIEWS}


@dataclass(frozen=True)
class Numbers:
    """Distribution of a numeric feature, or of the lengths of a list feature.

    Attributes:
        rows: Number of rows read.
        missing: Number of rows without a value.
        quantiles: Percentiles 0, 1, 25, 50, 75, 99 and 100, each an actual value; empty if there are no values.
        bounds: Range of the bins: percentiles 1 to 99, or 0 to 100 if those two are equal.
        bins: Number of values in each of `BINS` equal bins, with outliers in the first and last; one bin if all values
            are equal.
        lengths: Whether the feature is a list, in which case the other attributes describe list lengths.
        different: Number of distinct list elements, if the elements are IDs.
    """

    rows: int
    missing: int
    quantiles: Mapping[int, float]
    bounds: tuple[float, float]
    bins: tuple[int, ...]
    lengths: bool = False
    different: int | None = None


@dataclass(frozen=True)
class Texts:
    """Distribution of a text feature.

    Attributes:
        rows: Number of rows read.
        missing: Number of rows without a value.
        different: Number of distinct texts.
        top: (text, rows) of the most frequent texts, ties in alphabetical order; None if texts must not be shown.
    """

    rows: int
    missing: int
    different: int
    top: tuple[tuple[str, int], ...] | None


class TableDistribution(NamedTuple):
    """A table's snapshot time (None for all rows), number of rows, and the distribution of each feature."""

    moment: datetime | None
    rows: int
    features: Mapping[str, Numbers | Texts]


def numbers(values: NDArray[Any], rows: int, *, lengths: bool = False, different: int | None = None) -> Numbers:
    """Return the distribution of a feature's non-missing values.

    Args:
        values: (n,) values in any order; infinities and NaN count as missing.
        rows: Number of rows, at least n.
        lengths: See `Numbers`.
        different: See `Numbers`.
    """
    ordered = np.sort(values[np.isfinite(values)].astype(np.float64))
    count = len(ordered)
    if count == 0:
        return Numbers(rows, rows, {}, (0.0, 0.0), (), lengths, different)
    # The q-th percentile is the smallest value that at least q percent of the values do not exceed.
    found = {q: float(ordered[max(-(-q * count // 100) - 1, 0)]) for q in _PERCENTILES}
    low, high = (found[1], found[99]) if found[1] < found[99] else (found[0], found[100])
    if low == high:
        bins: tuple[int, ...] = (count,)
    else:
        place = np.floor((np.clip(ordered, low, high) - low) / (high - low) * BINS).astype(np.int64)
        bins = tuple(np.bincount(np.minimum(place, BINS - 1), minlength=BINS).tolist())
    return Numbers(rows, rows - count, found, (low, high), bins, lengths, different)


def table_distribution(
    connection: Any, path: Path, units: Mapping[str, str], shown: frozenset[str], *, all_rows: bool
) -> TableDistribution:
    """Return the distributions of a table's features.

    Args:
        connection: A DuckDB connection.
        path: A Parquet file with a column `event_timestamp`.
        units: Unit of each feature; other columns are not read.
        shown: Features whose texts may be shown.
        all_rows: Whether to use all rows; otherwise only those of the latest snapshot.
    """
    table, schema, moment = connection.read_parquet(str(path)), pq.read_schema(path), None
    if not all_rows:
        ((micros,),) = table.aggregate("max(epoch_us(event_timestamp))").fetchall()
        if micros is not None:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
            table = table.filter(f"event_timestamp = make_timestamptz({micros})")
    ((rows,),) = table.aggregate("count(*)").fetchall()
    features = {
        name: _distribution(table.project(f"{quoted(name)} AS one"), schema.field(name).type, unit, name in shown)
        for name, unit in units.items()
    }
    return TableDistribution(moment, rows, features)


def _distribution(column: Any, kind: pa.DataType, unit: str, show: bool) -> Numbers | Texts:
    """Return the distribution of a relation's only column, `one`."""
    different = "count(DISTINCT one)"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        ((rows, filled, texts),) = column.aggregate(f"count(*), count(one), {different}").fetchall()
        counts = column.filter("one IS NOT NULL").aggregate("one, count(*) AS rows", "one")
        top = tuple(counts.order("rows DESC, one").limit(MOST_TEXTS).fetchall()) if show else None
        return Texts(rows, rows - filled, texts, top)
    lists, ids = pa.types.is_list(kind) or pa.types.is_large_list(kind), None
    if lists and unit == "id":
        ((ids,),) = column.project("unnest(one) AS one").aggregate(different).fetchall()
    values = column.project("len(one)" if lists else "one").to_arrow_table().column(0)
    return numbers(values.drop_null().to_numpy(), len(values), lengths=lists, different=ids)


def rhythm(name: str) -> str:
    """Describe when a view has a row."""
    if name not in _BY_NAME:
        return _NOT_DAILY.get(name, "computed for each request")
    every = _BY_NAME[name].every
    if every is None:
        return "only the last day"
    return "daily" if every == 1 else f"every {every} days"


def short(value: float) -> str:
    """Format a number compactly: 0.25, 1980, 12.3k, 4.1M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}" if abs(value) >= 1e3 else f"{value:.3g}"


def share(part: float) -> str:
    """Format a share as a percentage that is 0 or 100 only if it is exact."""
    if part in {0.0, 1.0}:
        return f"{part:.0%}"
    if part < 0.001:
        return "< 0.1%"
    return "> 99.9%" if part > 0.999 else f"{part:.1%}"


def _bars(found: Numbers) -> str:
    """Return the bins as an SVG path."""
    step, most = _WIDTH / len(found.bins), max(found.bins)
    heights = {place: max(count / most * _HEIGHT, _LEAST) for place, count in enumerate(found.bins) if count}
    return "".join(
        f"M{place * step:.4g} {_HEIGHT}v-{height:.3g}h{step - _GAP:.4g}v{height:.3g}z"
        for place, height in heights.items()
    )


def _across(found: Numbers, percentile: int) -> float:
    """Return the x coordinate of a percentile in the histogram."""
    low, high = found.bounds
    return round((min(max(found.quantiles[percentile], low), high) - low) / (high - low) * _WIDTH, 1)


def template(name: str) -> Template:
    """Load a template from this module's folder."""
    functions = {"short": short, "share": share, "sentence": sentence, "bars": _bars, "across": _across}
    return load_template(Path(__file__).with_name(name), functions=functions)


def build_page(connection: Any, folder: Path, about: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        connection: A DuckDB connection.
        folder: The folder with the Parquet file of each view.
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
        "Features": sum(len(one["features"]) for one in sections),
        "Rows in all tables": f"{sum(one['rows'] or 0 for one in sections):,}",
    }
    return template("page.html").render(facts=facts, digest=dataset.get("digest"), sections=sections) + "\n"


def _section(
    connection: Any, folder: Path, name: str, entries: list[Mapping[str, Any]], rows: int | None
) -> dict[str, Any]:
    """Return the page section of one view, given its entries in `features.json`."""
    view, table = _BY_NAME.get(name), None
    if name not in COMPUTED:
        units = {entry["name"]: entry["unit"] for entry in entries}
        shown = frozenset(feature for feature, unit in units.items() if may_show_values(unit))
        path = folder / f"{name}.parquet"
        table = table_distribution(connection, path, units, shown, all_rows=name in _NOT_DAILY)
    found = table.features if table else {}
    return {
        "name": name,
        "meaning": VIEW_MEANING[name],
        "keys": view.keys if view else ("user_id",) if name in _NOT_DAILY else (),
        "rhythm": rhythm(name),
        "online": view.online if view else True,
        "owner": entries[0]["owner"],
        "rows": rows,
        "table": table,
        "features": [
            {**one, "read_by": readers(name, one["name"]), "distribution": found.get(one["name"])} for one in entries
        ],
    }
