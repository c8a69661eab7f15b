"""One person out of all that the platform keeps of features: online stores, offline copies; and out of the lake.

The tombstone is written first, so that nothing that runs meanwhile brings the person back; every step may be done
again. What DVC keeps (outs and their cache) is a function of the data: it is named, and goes with the next run.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq

from events.erase import LakeErasure, erase_from_lake
from events.lake import is_lake
from features.online_stores.erased import ERASABLE_KEY
from features.online_stores.redis_rows import RedisRows
from features.online_stores.rows import RowStore
from features.online_stores.sqlite_rows import SqliteRows
from features.store import Places, data_moment, places, read_state, redis_generations, store_errors
from features.tombstones import add_tombstone
from shoplens.errors import SettingsError, StoreUnavailableError
from shoplens.settings import Settings


@dataclass(frozen=True)
class ErasureReport:
    """What was removed, and what is left to do. It does not hold the id.

    Attributes:
        online: Rows by store and view.
        offline: Rows by file, copies of snapshots below `var/feast/offline`.
        lake: What was removed from the lake; None where there is none.
        recompute: Rows of DVC's outs that still name the person, by file: `dvc repro` computes these anew from data
            without them, `dvc gc --workspace` clears the cache of what was.
    """

    online: dict[str, dict[str, int]] = field(default_factory=dict)
    offline: dict[str, int] = field(default_factory=dict)
    lake: LakeErasure | None = None
    recompute: dict[str, int] = field(default_factory=dict)


def erase_user(settings: Settings, user_id: str, lake: str | None = None) -> ErasureReport:
    """Remove a person. Nothing else may load the store meanwhile (the stage `materialize` is locked by the command).

    Args:
        settings: Of the project.
        user_id: Whom.
        lake: The lake, a folder or an fsspec URL; by default `lake/`, if that is one.

    Raises:
        SettingsError: the id is empty.
        StoreUnavailableError: a store cannot be reached; the rest is not done then.
        SourceError: the lake that was named is none, or cannot be read.
    """
    if not user_id:
        raise SettingsError("USER_ID: must not be empty; received ''")
    where = places(settings)
    state = read_state(where)
    add_tombstone(where, user_id, data_moment(where, state) if state is not None else None)
    online = {}
    for name, rows in _stores(settings, where):
        try:
            online[name] = rows.erase(user_id)
        except store_errors(settings) as error:
            raise StoreUnavailableError(f"online store {name}: cannot be written: {error}; erase again") from error
        finally:
            rows.close()
    offline = {
        path.relative_to(where.home).as_posix(): count
        for path in sorted(where.offline.glob("*/**/*.parquet"))
        if not path.is_relative_to(where.current) and (count := _rewrite(path, user_id))
    }
    found: str | Path = lake or settings.lake_dir
    removed = erase_from_lake(found, user_id) if lake or is_lake(found) else None
    return ErasureReport(online, offline, removed, _left(settings, user_id))


def _stores(settings: Settings, where: Places) -> Iterator[tuple[str, RowStore]]:
    """Yield every store that there may be rows in, whichever is in use."""
    for path in sorted((where.home / "online").glob("*.db")):
        yield f"online/{path.name}", SqliteRows(path)
    if settings.online_store == "redis":
        for generation in redis_generations(where)[1]:
            yield f"redis/{generation}", RedisRows(settings.redis_url.get_secret_value(), generation)


def _rewrite(path: Path, user_id: str) -> int:
    """Write a file without the rows of a person, beside and renamed, and return how many there were.

    Row groups stay what they are, so that a load which counted them goes on at the right one.
    """
    with pq.ParquetFile(path) as table:
        if ERASABLE_KEY not in table.schema_arrow.names or not _count(path, user_id):
            return 0
        work, removed = path.with_name(f".{path.name}.{os.getpid()}.tmp"), 0
        with pq.ParquetWriter(work, table.schema_arrow, compression="snappy") as writer:
            for place in range(table.num_row_groups):
                rows = table.read_row_group(place)
                kept = rows.filter(pc.not_equal(rows[ERASABLE_KEY], user_id))
                removed += rows.num_rows - kept.num_rows
                writer.write_table(kept, row_group_size=max(kept.num_rows, 1))
    work.replace(path)
    return removed


def _count(path: Path, user_id: str) -> int:
    chosen = pl.scan_parquet(path, glob=False).filter(pl.col(ERASABLE_KEY).cast(pl.String) == user_id)
    count: int = chosen.select(pl.len()).collect().item()
    return count


def _left(settings: Settings, user_id: str) -> dict[str, int]:
    """Return the rows of DVC's outs that name the person."""
    left = {}
    for path in sorted(settings.outs_dir.rglob("*.parquet")):
        with pq.ParquetFile(path) as table:
            named = ERASABLE_KEY in table.schema_arrow.names
        if named and (count := _count(path, user_id)):
            left[path.relative_to(settings.outs_dir.parent).as_posix()] = count
    return left
