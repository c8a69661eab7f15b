"""Where the operational feature store lives below `var/feast`, what it holds, and how it is opened.

registry.db                 Feast's registry, applied only when definitions change
offline/DIGEST/             immutable copies of the snapshots that were loaded; `offline/current` is a link to the last
online/DIGEST.sqlite        the online store of these data; for Redis DIGEST.redis, empty, of keys with this prefix
online.db, previous.db      links to the online store in use, and to the one that was in use before
erased.json                 tombstones: hashes of the IDs of people who were erased
state.json                  what the online store in use holds; written last, so that it never promises too much
live.json                   the first moment after the last event that was collected and pushed
"""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, whole_file, write_json
from shoplens.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

    from features.online_stores.rows import RowStore

_NAME_LENGTH = 16  # characters of the digest that name a store, and begin every key in Redis


@dataclass(frozen=True)
class StoreState:
    """What the online store holds.

    Attributes:
        digest: Of the features, their definitions and the store they were loaded into.
        lineage: Source, mapping and kind of user: data of another lineage never mixes with it.
        high_water: The first moment after the last event (UTC, ISO 8601).
        last_n: Events kept per user.
        users: Users with recent events online.
        rows: Rows loaded, all views together.
        load: Unique to the load: a store that was loaded again has none of the events that were pushed.
    """

    digest: str
    lineage: str
    high_water: str
    last_n: int
    users: int
    rows: int
    load: str


class Places:
    """Paths of the feature store, as described at the top of this module."""

    def __init__(self, home: Path) -> None:
        """Name the paths; nothing is created."""
        self.home = home
        self.registry = home / "registry.db"
        self.offline = home / "offline"
        self.current = self.offline / "current"
        self.online = home / "online.db"
        self.previous = home / "previous.db"
        self.erased = home / "erased.json"
        self.state = home / "state.json"
        self.live = home / "live.json"

    def online_store(self, settings: Settings, name: str) -> Path:
        """File of an online store; with Redis it is empty, and marks that keys of this store may exist."""
        return self.home / "online" / f"{name}.{settings.online_store}"


def places(settings: Settings) -> Places:
    """Return where the feature store of these settings is."""
    return Places(settings.var_dir / "feast")


def read_state(where: Places) -> StoreState | None:
    """Return what the online store holds; None when nothing was ever loaded.

    Raises:
        StoreUnavailableError: the state cannot be understood.
    """
    try:
        return StoreState(**read_json(where.state))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:  # TypeError: other fields than ours
        raise StoreUnavailableError(f"{where.state}: cannot be read ({error}); run `shoplens materialize`") from error


def data_moment(where: Places, state: StoreState) -> datetime:
    """Return where the data's clock stands (UTC): just after the last event loaded, or collected and pushed."""
    loaded = datetime.fromisoformat(state.high_water)
    try:
        live = read_json(where.live)
        same = live["lineage"] == state.lineage  # of other data nothing follows
        return max(loaded, datetime.fromisoformat(live["high_water"])) if same else loaded
    except (OSError, ValueError, KeyError):
        return loaded


def write_live(where: Places, state: StoreState, moment: datetime) -> None:
    """Move the data's clock forward to just after a collected event; it never goes back."""
    if moment > data_moment(where, state):
        write_json(where.live, {"lineage": state.lineage, "high_water": moment.isoformat()})


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, in one step."""
    with whole_file(link) as work:
        work.symlink_to(os.path.relpath(target, link.parent))


def store_name(digest: str) -> str:
    """Return the name of the online store of the data with this digest."""
    return digest[:_NAME_LENGTH]


def in_use(settings: Settings) -> str | None:
    """Return the name of the online store that is read and pushed to; None where none was loaded."""
    link = places(settings).online
    return link.resolve().stem if link.is_file() and link.resolve().suffix == f".{settings.online_store}" else None


def online_stores(settings: Settings) -> list[str]:
    """Return the names of all online stores that there may be rows in."""
    return sorted(path.stem for path in places(settings).home.glob(f"online/*.{settings.online_store}"))


def open_rows(settings: Settings, name: str | None = None) -> "RowStore":
    """Open the rows of an online store, by default of the one in use; nothing is connected yet.

    Raises:
        SettingsError: the address of Redis is not valid.
    """
    if settings.online_store == "redis":
        from features.online_stores.redis_rows import RedisRows

        return RedisRows(settings.redis_url.get_secret_value(), name or in_use(settings) or "none")
    from features.online_stores.sqlite_rows import SqliteRows

    where = places(settings)
    return SqliteRows(where.online_store(settings, name) if name else where.online)


def open_store(settings: Settings, name: str | None = None, registry: Path | None = None) -> "FeatureStore":
    """Open the feature store of these settings; nothing is read or connected yet.

    Args:
        settings: Of the project.
        name: Name of the online store; by default the one in use.
        registry: Feast's registry; by default the one in use.
    """
    from feast import FeatureStore

    from features.online_stores.feast_plugin import STORE_TYPE
    from features.repo import repo_config

    where = places(settings)
    if settings.online_store == "redis":
        online = {"type": STORE_TYPE, "url": settings.redis_url, "name": name or in_use(settings) or "none"}
    else:
        online = {"type": STORE_TYPE, "path": str(where.online_store(settings, name) if name else where.online)}
    return FeatureStore(config=repo_config(registry or where.registry, online))


def store_errors(settings: Settings) -> tuple[type[Exception], ...]:
    """Return what the chosen store raises when it cannot be reached, read or written."""
    if settings.online_store == "sqlite":
        import sqlite3

        return (sqlite3.Error, OSError)
    from redis.exceptions import RedisError

    return (RedisError, OSError)
