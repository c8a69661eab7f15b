"""Bring the latest snapshots and the recent events of every user into the online store.

May be killed at any moment and run again: copies are whole or absent, a load goes on at the slice where it stopped,
values are newest-wins, and the state, which says what was loaded, is written last. The same features again change
nothing.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from features.load import freeze, load_view
from features.online_stores.digest import store_digest
from features.store import (
    Places,
    StoreState,
    close_store,
    in_use,
    open_rows,
    open_store,
    places,
    point,
    read_state,
    redis_generations,
    store_errors,
    write_state,
)
from features.tombstones import lift_tombstones, read_tombstones
from shoplens.digest import file_digest, folder_digest
from shoplens.errors import FeatureError, StoreUnavailableError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

    from features.repo import Definitions

__all__ = ["MaterializeReport", "materialize", "store_digest"]
_COPIES_KEPT = 2  # the copy in use, and the one before it for a reader that is still in it
Window = tuple[datetime, datetime]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class MaterializeReport:
    """What a run did: `changed` is False when the store already held this digest; `values` were written by this run."""

    digest: str
    changed: bool
    users: int
    rows: int
    values: int
    seconds: float
    high_water: str


def _digest(features_dir: Path, settings: Settings) -> str:
    """Return a digest of the features, of the code that defines and keeps them, and of the store they go to."""
    total = hashlib.sha256(folder_digest(features_dir).encode())
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        name = path.relative_to(here).as_posix()
        if not name.startswith("live/"):
            total.update(f"{name}\0{file_digest(path)}\n".encode())
    total.update(settings.online_store.encode())
    return total.hexdigest()


def _lineage(dataset: dict[str, Any]) -> str:
    names = ("source", "mapping", "identity")
    return hashlib.sha256(json.dumps([dataset[name] for name in names]).encode()).hexdigest()[:16]


def _windows(repo: "Definitions", about: dict[str, Any]) -> dict[str, Window]:
    """Return, for each view, the first and last event time whose rows can still be alive at the high-water mark.

    Last events are loaded of whoever has any: who comes back after long has the same history as in training. Until
    then they are expired, and not served.
    """
    start, end = (datetime.fromisoformat(about["dataset"][name]).astimezone(UTC) for name in ("start", "high_water"))
    return {  # a time to live of zero: never too old
        name: (end - view.ttl if view.ttl and name != "recent_events" else start - timedelta(days=1), end)
        for name, view in repo.views.items()
    }


def _rows(folder: Path, name: str) -> int:
    count: int = pl.scan_parquet(folder / f"{name}.parquet").select(pl.len()).collect().item()
    return count


def _is_current(state: StoreState | None, digest: str, where: Places, settings: Settings) -> bool:
    return (
        state is not None
        and state.digest == digest
        and where.registry.is_file()
        and in_use(settings) is not None
        and _loaded(settings) == digest
    )


def _loaded(settings: Settings) -> str | None:
    """Return which load the store in use holds whole; None also where the store lost it, or is no store any more."""
    import sqlite3

    rows = open_rows(settings)
    try:
        return rows.loaded()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) not in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise
        places(settings).online.resolve().unlink(missing_ok=True)  # all that it held is loaded anew
        return None
    finally:
        rows.close()


def _known_state(where: Places) -> StoreState | None:
    try:
        return read_state(where)
    except StoreUnavailableError:
        return None  # unreadable: as good as none, for everything is loaded anew and the state is written over


def _generation(settings: Settings, state: StoreState | None, about: dict[str, Any], digest: str) -> str:
    """Return the generation to load: the one in use, or a new one where the old values must not be seen again.

    Newest-wins would keep the values of another source, of a later moment than the new high-water mark, and of events
    that a correction of the same days has taken back.
    """
    held = in_use(settings)
    if state is not None and held is not None and state.lineage == _lineage(about["dataset"]):
        later = datetime.fromisoformat(about["dataset"]["high_water"]) > datetime.fromisoformat(state.high_water)
        if later or digest == state.digest:
            return held
    return digest[:16]


def _prune(settings: Settings, where: Places, copy: Path, generation: str) -> None:
    """Remove copies and generations that nothing points at, but for the newest copies."""
    copies = [path for path in where.offline.iterdir() if path.is_dir() and not path.is_symlink()]
    copies.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in copies[_COPIES_KEPT:]:
        if path != copy:
            shutil.rmtree(path, ignore_errors=True)
    if settings.online_store == "sqlite":
        for path in (where.home / "online").glob("*.db*"):
            if not path.name.startswith(f"{generation}.db"):
                path.unlink(missing_ok=True)
        return
    from features.online_stores.redis_rows import RedisRows

    _, made = redis_generations(where)
    for old in set(made) - {generation}:
        rows = RedisRows(settings.redis_url.get_secret_value(), old)
        rows.remove()
        rows.close()
    write_json(where.redis, {"in_use": generation, "made": [generation]})


def _announce(settings: Settings, where: Places, generation: str) -> None:
    """Keep the name of a generation before anything is in it, so that what a killed load leaves is found."""
    if settings.online_store == "sqlite":
        where.sqlite(generation).parent.mkdir(parents=True, exist_ok=True)
        return
    used, made = redis_generations(where)
    write_json(where.redis, {"in_use": used, "made": sorted({*made, generation})})


def _use(settings: Settings, where: Places, generation: str) -> None:
    """Let readers and pushes find this generation from now on."""
    if in_use(settings) == generation:
        return
    if settings.online_store == "sqlite":
        point(where.online, where.sqlite(generation))
        return
    _, made = redis_generations(where)
    write_json(where.redis, {"in_use": generation, "made": made})


def materialize(settings: Settings, tell: Tell = lambda line: None) -> MaterializeReport:
    """Load `outs/features` into the online store and keep what was loaded in `var/feast/state.json`.

    Args:
        settings: Of the project.
        tell: Gets a line every few seconds of a long load.

    Raises:
        FeatureError: there are no features yet.
        StoreUnavailableError: the online store cannot be written.
    """
    started = time.monotonic()
    features_dir, where = settings.outs_dir / "features", places(settings)
    if not (features_dir / "features.json").is_file():
        raise FeatureError(f"{features_dir}: must hold the features; run the stage `features` first")
    digest = _digest(features_dir, settings)
    state, changed, values = _known_state(where), False, 0
    try:
        if state is None or not _is_current(state, digest, where, settings):
            state, values = _load_anew(settings, where, features_dir, digest, state, tell)
            changed = True
    except store_errors(settings) as error:
        raise StoreUnavailableError(f"online store ({settings.online_store}): cannot be written: {error}") from error
    seconds = round(time.monotonic() - started, 3)
    return MaterializeReport(digest, changed, state.users, state.rows, values, seconds, state.high_water)


def _load_anew(
    settings: Settings, where: Places, features_dir: Path, digest: str, old: StoreState | None, tell: Tell
) -> tuple[StoreState, int]:
    """Copy, apply, load, point, and only then write the new state; return it and the count of values written."""
    from features.repo import definitions

    about = read_json(features_dir / "features.json")
    copy = where.offline / digest
    source = definitions(features_dir)
    windows = _windows(source, about)
    freeze(features_dir, copy, windows, [view for view in source.views.values() if view.online])
    point(where.current, copy)
    repo = definitions(where.current)
    lift_tombstones(where, features_dir, datetime.fromisoformat(about["dataset"]["high_water"]))
    generation = _generation(settings, old, about, digest)
    _announce(settings, where, generation)
    values = _load(settings, where, generation, repo, windows, digest, tell)
    _use(settings, where, generation)
    rows = sum(_rows(copy, name) for name, view in repo.views.items() if view.online)
    high_water, users = about["dataset"]["high_water"], _rows(copy, "recent_events")
    lineage = _lineage(about["dataset"])
    state = StoreState(digest, repo.digest(), lineage, high_water, about["last_n"], users, rows)
    write_state(where, state)
    _prune(settings, where, copy, generation)
    return state, values


def _load(
    settings: Settings,
    where: Places,
    generation: str,
    repo: "Definitions",
    windows: dict[str, Window],
    digest: str,
    tell: Tell,
) -> int:
    """Apply the definitions to a new registry, load every online view, and put the registry in place."""
    from features.online_stores.shape import ViewShape

    registry = where.registry.with_name(f".{where.registry.name}.{os.getpid()}.tmp")
    registry.unlink(missing_ok=True)
    feast = open_store(settings, generation, registry)
    try:
        feast.apply(repo.objects())
        rows = feast._get_provider().online_store.rows(feast.config)  # Feast offers no public way to its store
        online = {name: ViewShape.of(view) for name, view in repo.views.items() if view.online}
        for name in rows.views() - set(online):
            rows.drop(name)
        rows.tombstones(read_tombstones(where))
        values = sum(load_view(rows, shape, where.current, digest, tell) for shape in online.values())
        rows.finish(digest)
        _record(feast, repo, windows)
        registry.replace(where.registry)
    finally:
        close_store(feast)
        registry.unlink(missing_ok=True)
    return values


def _record(feast: "FeatureStore", repo: "Definitions", windows: dict[str, Window]) -> None:
    """Let the registry say which windows were loaded, as Feast's own materialization does."""
    for name, view in repo.views.items():
        if view.online:
            feast.registry.apply_materialization(view, feast.project, *windows[name], commit=False)
    feast.registry.commit()
