"""What the catalogue says: `features.json` and the distributions put together, view by view."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.definitions import COMPUTED, VIEW_MEANING, VIEWS, may_show_values
from features.page.distribution import Drawn, Numbers, Words, drawn
from features.services import readers

_WHOLE = {"user_profile": "once, as declared", "recent_events": "at the last event of each user"}
_BY_NAME = {view.name: view for view in VIEWS}


@dataclass(frozen=True)
class Feature:
    """One feature; shares are None where it is in no table, as is `drawn`."""

    name: str
    meaning: str
    unit: str
    window: str
    owner: str
    null_share: float | None
    null_share_drawn: float | None
    read_by: tuple[str, ...]
    drawn: Numbers | Words | None


@dataclass(frozen=True)
class Section:
    """One view.

    Attributes:
        name: Of the view.
        meaning: One sentence.
        keys: Columns of its entity; none: it is computed when asked.
        rhythm: When it has a row.
        online: Whether a service may ask for it.
        owner: Whom to ask.
        rows: In its table; None: it has none.
        shown: Which rows the distributions are of.
        snapshot: Whether these are the rows of the last snapshot only.
        features: In the order of the table.
    """

    name: str
    meaning: str
    keys: tuple[str, ...]
    rhythm: str
    online: bool
    owner: str
    rows: int | None
    shown: str
    snapshot: bool
    features: tuple[Feature, ...]


@dataclass(frozen=True)
class Content:
    """All of the page: the dataset as `dataset.json` describes it, and the views."""

    dataset: Mapping[str, Any]
    sections: tuple[Section, ...]


def gather(connection: Any, folder: Path, about: Mapping[str, Any]) -> Content:
    """Return what the page says.

    Args:
        connection: DuckDB's own.
        folder: Holds the table of every view that has one.
        about: What `features.json` says.
    """
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for entry in about["features"]:
        entries.setdefault(entry["view"], []).append(entry)
    order = [name for name in (*_BY_NAME, *_WHOLE, *COMPUTED) if name in entries]
    sections = []
    for name in order:
        found = None if name in COMPUTED else _drawn(connection, folder, name, entries[name])
        sections.append(_section(name, entries[name], about["rows"].get(name), found))
    return Content(about["dataset"], tuple(sections))


def _drawn(connection: Any, folder: Path, view: str, entries: list[Mapping[str, Any]]) -> Drawn:
    units = {entry["name"]: entry["unit"] for entry in entries}
    shown = frozenset(name for name, unit in units.items() if may_show_values(unit))
    return drawn(connection, folder / f"{view}.parquet", units, shown, whole=view in _WHOLE)


def _section(name: str, entries: list[Mapping[str, Any]], rows: int | None, found: Drawn | None) -> Section:
    view = _BY_NAME.get(name)
    return Section(
        name,
        VIEW_MEANING[name],
        view.keys if view else ("user_id",) if name in _WHOLE else (),
        rhythm(name),
        view.online if view else True,
        entries[0]["owner"],
        rows,
        _shown(found),
        found is not None and found.moment is not None,
        tuple(_feature(entry, found) for entry in entries),
    )


def rhythm(name: str) -> str:
    """Say when a view has a row."""
    if name not in _BY_NAME:
        return _WHOLE.get(name, "computed at the moment asked")
    every = _BY_NAME[name].every
    if every is None:
        return "only the last day"
    return "daily" if every == 1 else f"every {every} days"


def _shown(found: Drawn | None) -> str:
    if found is None:
        return ""
    if found.moment is None:
        return f"all {found.rows:,} rows"
    return f"the last snapshot, {found.moment:%Y-%m-%d %H:%M} UTC: {found.rows:,} rows"


def _feature(entry: Mapping[str, Any], found: Drawn | None) -> Feature:
    distribution = found.features[entry["name"]] if found else None
    missing = distribution.missing / distribution.rows if distribution and distribution.rows else None
    return Feature(
        entry["name"],
        entry["meaning"],
        entry["unit"],
        entry["window"],
        entry["owner"],
        entry["null_share"],
        missing,
        readers(entry["view"], entry["name"]),
        distribution,
    )
