"""The layout, state and opening of the operational feature store below `var/feast`.

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

_NAME_LENGTH = 16  # characters of the digest in a store's name and in Redis key prefixes


@dataclass(frozen=True)
class StoreState:
    """The state of the online store.

    Attributes:
        digest: Digest of the features, their definitions and the kind of store.
        lineage: Source, mapping and kind of user; data of different lineages never mixes.
        high_water: The first instant after the last event (UTC, ISO 8601).
        last_n: Number of events kept per user.
        users: Number of users with recent events.
        rows: Number of rows loaded, over all views.
        load: Unique ID of the load; a store that is loaded again no longer has the events pushed before.
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
        """Set the paths without creating anything."""
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
        """Return the file of an online store; with Redis, an empty file that marks that keys may exist."""
        return self.home / "online" / f"{name}.{settings.online_store}"


def places(settings: Settings) -> Places:
    """Return the paths of the feature store."""
    return Places(settings.var_dir / "feast")


def read_state(where: Places) -> StoreState | None:
    """Read the state of the online store; None if nothing has been loaded yet.

    Raises:
        StoreUnavailableError: the state cannot be parsed.
    """
    try:
        return StoreState(**read_json(where.state))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:  # TypeError: unexpected fields
        raise StoreUnavailableError(f"{where.state}: cannot be read ({error}); run `shoplens materialize`") from error


def data_moment(where: Places, state: StoreState) -> datetime:
    """Return the time of the data's clock (UTC): just after the last event that was loaded, or collected and pushed."""
    loaded = datetime.fromisoformat(state.high_water)
    try:
        live = read_json(where.live)
        same = live["lineage"] == state.lineage  # the clock of other data does not apply
        return max(loaded, datetime.fromisoformat(live["high_water"])) if same else loaded
    except (OSError, ValueError, KeyError):
        return loaded


def write_live(where: Places, state: StoreState, moment: datetime) -> None:
    """Advance the data's clock to just after a collected event; it never moves backwards."""
    if moment > data_moment(where, state):
        write_json(where.live, {"lineage": state.lineage, "high_water": moment.isoformat()})


def point(link: Path, target: Path) -> None:
    """Atomically make `link` a relative symbolic link to `target`."""
    with whole_file(link) as work:
        work.symlink_to(os.path.relpath(target, link.parent))


def store_name(digest: str) -> str:
    """Return the name of the online store for a digest."""
    return digest[:_NAME_LENGTH]


def in_use(settings: Settings) -> str | None:
    """Return the name of the current online store; None if none has been loaded."""
    link = places(settings).online
    return link.resolve().stem if link.is_file() and link.resolve().suffix == f".{settings.online_store}" else None


def online_stores(settings: Settings) -> list[str]:
    """Return the names of all online stores that may have rows."""
    return sorted(path.stem for path in places(settings).home.glob(f"online/*.{settings.online_store}"))


def open_rows(settings: Settings, name: str | None = None) -> "RowStore":
    """Open the rows of an online store, by default the current one; it connects on first use.

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
    """Open the feature store; it connects on first use.

    Args:
        settings: Settings of the project.
        name: Name of the online store; the current one by default.
        registry: Feast's registry; the current one by default.
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
    """Return the exceptions of the configured store when it cannot be reached, read or written."""
    if settings.online_store == "sqlite":
        import sqlite3

        return (sqlite3.Error, OSError)
    from redis.exceptions import RedisError

    return (RedisError, OSError)
