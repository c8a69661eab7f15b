"""Bring the latest snapshots and the recent events of every user into the online store.

May be killed at any moment and run again: copies are whole or absent, values are newest-wins, and the state, which
says what was loaded, is written last. The same features again change nothing.
"""

import contextlib
import hashlib
import json
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from features.definitions import VIEW_MEANING
from features.store import (
    Places,
    StoreState,
    close_store,
    online_config,
    open_store,
    places,
    point,
    read_state,
    store_errors,
    write_state,
)
from shoplens.digest import file_digest, folder_digest
from shoplens.errors import FeatureError, StoreUnavailableError
from shoplens.files import read_json, whole_folder
from shoplens.settings import Settings

if TYPE_CHECKING:
    from features.repo import Definitions

_COPIES_KEPT = 2  # the copy in use, and the one before it for a reader that is still in it


@dataclass(frozen=True)
class MaterializeReport:
    """What a run did: `changed` is False when the store already held this digest."""

    digest: str
    changed: bool
    users: int
    rows: int
    seconds: float
    high_water: str


def _digest(features_dir: Path, settings: Settings) -> str:
    """Return a digest of the features, of the code that defines them, and of the store they go to."""
    total = hashlib.sha256(folder_digest(features_dir).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(f"{path.name}\0{file_digest(path)}\n".encode())
    total.update(settings.online_store.encode())
    return total.hexdigest()


def _lineage(dataset: dict[str, Any]) -> str:
    names = ("source", "mapping", "identity")
    return hashlib.sha256(json.dumps([dataset[name] for name in names]).encode()).hexdigest()[:16]


def _windows(about: dict[str, Any]) -> dict[str, tuple[datetime, datetime]]:
    """Return, for each view, the first and last event time whose rows can still be alive at the high-water mark."""
    from features.repo import SNAPSHOT_TTL

    start, end = (datetime.fromisoformat(about["dataset"][name]).astimezone(UTC) for name in ("start", "high_water"))
    snapshots = (end - SNAPSHOT_TTL, end)
    return {
        "user_behaviour": snapshots,
        "user_preference": snapshots,
        "item_popularity": snapshots,
        "user_profile": (start - timedelta(days=1), end),
        "recent_events": (end - timedelta(days=about["active_days"]), end),
    }


def _freeze(features_dir: Path, target: Path, windows: dict[str, tuple[datetime, datetime]]) -> None:
    """Copy the rows that can be alive into `target`, unless it is there already: copies never change."""
    if target.exists():
        return
    with whole_folder(target) as work:
        for name, (first, last) in windows.items():
            alive = pl.scan_parquet(features_dir / f"{name}.parquet").filter(
                pl.col("event_timestamp").is_between(first, last)
            )
            alive.collect().write_parquet(work / f"{name}.parquet")
        shutil.copy(features_dir / "features.json", work / "features.json")


def _rows(folder: Path, name: str) -> int:
    count: int = pl.scan_parquet(folder / f"{name}.parquet").select(pl.len()).collect().item()
    return count


def _load(
    settings: Settings, sqlite_path: Path | None, repo: "Definitions", apply: bool, about: dict[str, Any]
) -> None:
    """Apply the definitions if need be, and write every online view; Feast's own chatter goes to stderr."""
    store = open_store(settings, sqlite_path)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if apply:
                store.apply(repo.objects())
            for name, (first, last) in _windows(about).items():
                if repo.views[name].online:
                    store.materialize(start_date=first, end_date=last, feature_views=[name])
    finally:
        close_store(store)


def _is_current(state: StoreState | None, digest: str, where: Places, settings: Settings) -> bool:
    there = where.registry.is_file() and (settings.online_store != "sqlite" or where.online.is_file())
    return state is not None and state.digest == digest and there


def _known_state(where: Places) -> StoreState | None:
    try:
        return read_state(where)
    except StoreUnavailableError:
        return None  # unreadable: as good as none, for everything is loaded anew and the state is written over


def _sqlite_target(where: Places, state: StoreState | None, lineage: str, high_water: str, digest: str) -> Path:
    """Return the SQLite file to load: the one in use, or a new one where the old values must not be seen again.

    Newest-wins would keep the values of another source, of a later moment than the new high-water mark, and of events
    that a correction of the same days has taken back.
    """
    same = state is not None and state.lineage == lineage
    if state is not None and same and where.online.is_file():
        later = datetime.fromisoformat(high_water) > datetime.fromisoformat(state.high_water)
        if later or digest == state.digest:
            return where.online.resolve()
    return where.home / "online" / f"{digest[:16]}.db"


def _prune(where: Places, kept: list[Path]) -> None:
    """Remove copies and SQLite files that nothing points at, but for the newest ones."""
    copies = [path for path in where.offline.iterdir() if path.is_dir() and not path.is_symlink()]
    copies.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in copies[_COPIES_KEPT:]:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for path in (where.home / "online").glob("*.db*"):
        if not any(path.name.startswith(used.name) for used in kept):
            path.unlink(missing_ok=True)


def materialize(settings: Settings) -> MaterializeReport:
    """Load `outs/features` into the online store and keep what was loaded in `var/feast/state.json`.

    Raises:
        FeatureError: there are no features yet.
        StoreUnavailableError: the online store cannot be written.
    """
    started = time.monotonic()
    features_dir, where = settings.outs_dir / "features", places(settings)
    if not (features_dir / "features.json").is_file():
        raise FeatureError(f"{features_dir}: must hold the features; run the stage `features` first")
    digest = _digest(features_dir, settings)
    state = _known_state(where)
    if state is not None and _is_current(state, digest, where, settings):
        seconds = round(time.monotonic() - started, 3)
        return MaterializeReport(digest, False, state.users, state.rows, seconds, state.high_water)
    state = _load_anew(settings, where, features_dir, digest, state)
    seconds = round(time.monotonic() - started, 3)
    return MaterializeReport(digest, True, state.users, state.rows, seconds, state.high_water)


def _load_anew(
    settings: Settings, where: Places, features_dir: Path, digest: str, old: StoreState | None
) -> StoreState:
    """Copy, apply, load, point, and only then write the new state."""
    from features.repo import definitions

    about = read_json(features_dir / "features.json")
    lineage, high_water = _lineage(about["dataset"]), about["dataset"]["high_water"]
    copy = where.offline / digest
    _freeze(features_dir, copy, _windows(about))
    point(where.current, copy)
    repo = definitions(where.current)
    target = _sqlite_target(where, old, lineage, high_water, digest) if settings.online_store == "sqlite" else None
    is_new = target is not None and not target.is_file()
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    applied = repo.digest()
    apply = old is None or old.definitions != applied or not where.registry.is_file() or is_new
    try:
        _load(settings, target, repo, apply, about)
    except store_errors(settings) as error:
        raise StoreUnavailableError(f"online store {_address(settings)}: cannot be written: {error}") from error
    if target is not None and (not where.online.is_symlink() or where.online.resolve() != target):
        point(where.online, target)
    rows = sum(_rows(copy, name) for name in VIEW_MEANING if repo.views[name].online)
    state = StoreState(digest, applied, lineage, high_water, about["last_n"], _rows(copy, "recent_events"), rows)
    write_state(where, state)
    _prune(where, [copy] + ([target] if target else []))
    return state


def _address(settings: Settings) -> str:
    """Name the store without a password."""
    return "redis" if settings.online_store == "redis" else str(online_config(settings)["path"])
