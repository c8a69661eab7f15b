"""Remove one person from all stored features and from the lake.

The tombstone is written first, so that no concurrent process brings the person back; every step may be repeated.
DVC's outs and cache are derived from the data: affected files are reported, and the next run replaces them.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from events.erase import LakeErasure, erase_from_lake
from events.lake import is_lake
from features.materialize import remove_leftovers, removing_a_broken
from features.store import data_moment, online_stores, open_rows, places, read_state, store_errors
from features.tombstones import ERASABLE_KEY, add_tombstone
from shoplens.errors import SettingsError, StoreUnavailableError
from shoplens.files import whole_file
from shoplens.settings import Settings


@dataclass(frozen=True)
class ErasureReport:
    """What was removed and what remains to be done; it does not contain the ID.

    Attributes:
        online: Number of rows per store and view.
        offline: Number of rows per file among the copied snapshots below `var/feast/offline`.
        lake: What was removed from the lake; None if there is no lake.
        broken: Why online stores were removed as a whole; `shoplens materialize` loads the one in use again.
        recompute: Rows of DVC's outs that still name the person, per file: `dvc repro` computes these again from data
            without them, `dvc gc --workspace` clears the cache of the old ones.
    """

    online: dict[str, dict[str, int]] = field(default_factory=dict)
    offline: dict[str, int] = field(default_factory=dict)
    lake: LakeErasure | None = None
    recompute: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything about the person existed, or an interrupted erasure was completed."""
        online = any(any(rows.values()) for rows in self.online.values())
        files = bool(self.offline or self.recompute or self.broken)
        return online or files or (self.lake is not None and self.lake.found)


def erase_user(settings: Settings, user_id: str, lake: str | None = None) -> ErasureReport:
    """Remove a person. No store may be loaded at the same time (the command locks the stage `materialize`).

    Args:
        settings: Settings of the project.
        user_id: ID of the person.
        lake: The lake, a folder or an object-store URL; by default `lake/`, if there is one.

    Raises:
        SettingsError: the ID is empty.
        StoreUnavailableError: a store cannot be reached, or the state cannot be read. The lake was erased; the
            remaining stores and the copies were not.
        SourceError: there is no lake at the given location, or it cannot be read.
    """
    if not user_id:
        raise SettingsError("USER_ID: must not be empty; received ''")
    report = ErasureReport()
    try:
        _erase_from_stores(settings, user_id, report)
    except Exception:  # erase the lake even if a store or a copy cannot be changed
        _erase_from_lake(settings, user_id, lake)
        raise
    removed = _erase_from_lake(settings, user_id, lake)
    recompute = {
        path.relative_to(settings.outs_dir.parent).as_posix(): count
        for path in sorted(settings.outs_dir.rglob("*.parquet"))
        if not _is_temporary(path.relative_to(settings.outs_dir)) and (count := _count(path, user_id))
    }
    return replace(report, lake=removed, recompute=recompute)


def _erase_from_lake(settings: Settings, user_id: str, lake: str | None) -> LakeErasure | None:
    """Remove the person from the lake; return None if there is none at the default location."""
    found: str | Path = lake or settings.lake_dir
    return erase_from_lake(found, user_id) if lake or is_lake(found) else None


def _erase_from_stores(settings: Settings, user_id: str, report: ErasureReport) -> None:
    """Remove the person from the online stores and the copied snapshots, and add what was removed to `report`."""
    where = places(settings)
    state = read_state(where)
    add_tombstone(where.erased, user_id, data_moment(where, state) if state is not None else None)
    for name in online_stores(settings):
        rows = open_rows(settings, name)
        try:
            with removing_a_broken(rows, report.broken.append):
                report.online[name] = rows.erase(user_id)
        except store_errors(settings) as error:
            raise StoreUnavailableError(f"online store {name}: cannot be written: {error}; erase again") from error
    remove_leftovers(where.offline)
    for path in sorted(where.offline.glob("*/**/*.parquet")):
        if not path.is_relative_to(where.current) and (count := _count(path, user_id)):
            with whole_file(path) as work:
                pl.scan_parquet(path).filter(pl.col(ERASABLE_KEY).ne_missing(user_id)).sink_parquet(work)
            report.offline[path.relative_to(where.home).as_posix()] = count


def _is_temporary(path: Path) -> bool:
    """Return whether a file is in the temporary folder of a running or killed stage, whose next run removes it."""
    return any(part.startswith(".") for part in path.parts)


def _count(path: Path, user_id: str) -> int:
    """Return the number of rows in a file that name the person."""
    table = pl.scan_parquet(path, glob=False)
    if ERASABLE_KEY not in table.collect_schema():
        return 0
    named = table.filter(pl.col(ERASABLE_KEY).cast(pl.String) == user_id)
    count: int = named.select(pl.len()).collect().item()
    return count
