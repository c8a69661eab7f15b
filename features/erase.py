"""Remove one person from all stored features and from the lake.

The tombstone is written first, so that no concurrent process brings the person back; every step may be repeated.
DVC's outs and cache are derived from the data: affected files are reported, and the next run replaces them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from events.erase import LakeErasure, erase_from_lake
from events.lake import is_lake
from features.materialize import remove_leftovers
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
        recompute: Rows of DVC's outs that still name the person, per file: `dvc repro` computes these again from data
            without them, `dvc gc --workspace` clears the cache of the old ones.
    """

    online: dict[str, dict[str, int]] = field(default_factory=dict)
    offline: dict[str, int] = field(default_factory=dict)
    lake: LakeErasure | None = None
    recompute: dict[str, int] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether anything about the person existed, or an interrupted erasure was completed."""
        online = any(any(rows.values()) for rows in self.online.values())
        return online or bool(self.offline or self.recompute) or (self.lake is not None and self.lake.found)


def erase_user(settings: Settings, user_id: str, lake: str | None = None) -> ErasureReport:
    """Remove a person. No store may be loaded at the same time (the command locks the stage `materialize`).

    Args:
        settings: Settings of the project.
        user_id: ID of the person.
        lake: The lake, a folder or an object-store URL; by default `lake/`, if there is one.

    Raises:
        SettingsError: the ID is empty.
        StoreUnavailableError: a store cannot be reached; the remaining steps are not performed.
        SourceError: there is no lake at the given location, or it cannot be read.
    """
    if not user_id:
        raise SettingsError("USER_ID: must not be empty; received ''")
    where = places(settings)
    state = read_state(where)
    add_tombstone(where.erased, user_id, data_moment(where, state) if state is not None else None)
    online = {}
    for name in online_stores(settings):
        rows = open_rows(settings, name)
        try:
            online[name] = rows.erase(user_id)
        except store_errors(settings) as error:
            raise StoreUnavailableError(f"online store {name}: cannot be written: {error}; erase again") from error
        finally:
            rows.close()
    remove_leftovers(where.offline)
    offline = {}
    for path in sorted(where.offline.glob("*/**/*.parquet")):
        if not path.is_relative_to(where.current) and (count := _count(path, user_id)):
            with whole_file(path) as work:
                pl.scan_parquet(path).filter(pl.col(ERASABLE_KEY).ne_missing(user_id)).sink_parquet(work)
            offline[path.relative_to(where.home).as_posix()] = count
    found: str | Path = lake or settings.lake_dir
    removed = erase_from_lake(found, user_id) if lake or is_lake(found) else None
    recompute = {
        path.relative_to(settings.outs_dir.parent).as_posix(): count
        for path in sorted(settings.outs_dir.rglob("*.parquet"))
        if not _is_temporary(path.relative_to(settings.outs_dir)) and (count := _count(path, user_id))
    }
    return ErasureReport(online, offline, removed, recompute)


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
