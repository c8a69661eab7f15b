"""Where the operational feature store lives below `var/feast`, what it holds, and how it is opened.

registry.db                 Feast's registry, applied only when definitions change
offline/DIGEST/             immutable copies of the snapshots that were loaded; `offline/current` links to the latest
online/GENERATION.db        SQLite; `online.db` links to the one in use
redis.json                  Redis: which generation of keys is in use, and which there may be besides
erased.json                 tombstones: hashes of the IDs of people who were erased
state.json                  what the online store holds; written last, so it never promises what is not there
live.json                   the first moment after the last event that was collected and pushed
"""

import dataclasses
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

    from features.online_stores.rows import RowStore


@dataclass(frozen=True)
class StoreState:
    """What the online store holds.

    Attributes:
        digest: Of the features, their definitions and the store they were loaded into.
        definitions: Digest of the Feast definitions that are applied.
        lineage: Source, mapping and kind of user: data of another lineage never mixes with it.
        high_water: The first moment after the last event (UTC, ISO 8601).
        last_n: Events kept of every user.
        users: Users with recent events online.
        rows: Rows loaded, all views together.
    """

    digest: str
    definitions: str
    lineage: str
    high_water: str
    last_n: int
    users: int
    rows: int


@dataclass(frozen=True)
class Places:
    """Paths of the feature store."""

    home: Path

    @property
    def registry(self) -> Path:
        """Feast's registry file."""
        return self.home / "registry.db"

    @property
    def offline(self) -> Path:
        """Immutable copies, one folder per digest."""
        return self.home / "offline"

    @property
    def current(self) -> Path:
        """Link to the copy that the online store was loaded from."""
        return self.offline / "current"

    @property
    def online(self) -> Path:
        """Link to the SQLite file in use."""
        return self.home / "online.db"

    def sqlite(self, generation: str) -> Path:
        """SQLite file of a generation."""
        return self.home / "online" / f"{generation}.db"

    @property
    def redis(self) -> Path:
        """Which generation of Redis is in use."""
        return self.home / "redis.json"

    @property
    def erased(self) -> Path:
        """Tombstones of people who were erased."""
        return self.home / "erased.json"

    @property
    def state(self) -> Path:
        """What the online store holds."""
        return self.home / "state.json"

    @property
    def live(self) -> Path:
        """Until when collected events were pushed."""
        return self.home / "live.json"


def places(settings: Settings) -> Places:
    """Return where the feature store of these settings is."""
    return Places(settings.var_dir / "feast")


def read_state(where: Places) -> StoreState | None:
    """Return what the online store holds; None when nothing was ever loaded.

    Raises:
        StoreUnavailableError: the state cannot be understood.
    """
    try:
        content = read_json(where.state)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreUnavailableError(f"{where.state}: cannot be read ({error}); run `shoplens materialize`") from error
    try:
        return StoreState(**content)
    except TypeError as error:
        raise StoreUnavailableError(f"{where.state}: has other fields ({error}); run `shoplens materialize`") from error


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


def write_state(where: Places, state: StoreState) -> None:
    """Keep what the online store holds, whole or not at all."""
    write_json(where.state, dataclasses.asdict(state))


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, in one step."""
    work = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    work.unlink(missing_ok=True)
    work.symlink_to(os.path.relpath(target, link.parent))
    work.replace(link)


def in_use(settings: Settings) -> str | None:
    """Return the generation of the online store that is read and pushed to; None where none was loaded.

    A load either adds to the generation in use or makes another one, in which nothing pushed meanwhile is.
    """
    where = places(settings)
    if settings.online_store == "sqlite":
        return where.online.resolve().stem if where.online.is_file() else None
    return redis_generations(where)[0]


def redis_generations(where: Places) -> tuple[str | None, list[str]]:
    """Return the generation of Redis in use, and all that there may be.

    Raises:
        StoreUnavailableError: what was kept of them cannot be understood.
    """
    try:
        content = read_json(where.redis)
        return content["in_use"], content["made"]
    except FileNotFoundError:
        return None, []
    except (OSError, ValueError, KeyError) as error:
        raise StoreUnavailableError(f"{where.redis}: cannot be read ({error}); remove it and materialize") from error


def online_config(settings: Settings, generation: str | None = None) -> dict[str, Any]:
    """Return Feast's configuration of the online store of the settings, by default of the generation in use."""
    if settings.online_store == "sqlite":
        from features.online_stores.plugins import SQLITE_TYPE

        where = places(settings)
        return {"type": SQLITE_TYPE, "path": str(where.sqlite(generation) if generation else where.online)}
    from features.online_stores.redis_plugin import REDIS_TYPE

    return {"type": REDIS_TYPE, "url": settings.redis_url, "generation": generation or in_use(settings) or "none"}


def open_rows(settings: Settings, generation: str | None = None) -> "RowStore":
    """Open the rows of the online store, by default of the generation in use; nothing is connected yet.

    Raises:
        SettingsError: the address of Redis cannot be understood.
    """
    if settings.online_store == "sqlite":
        from features.online_stores.sqlite_rows import SqliteRows

        where = places(settings)
        return SqliteRows(where.sqlite(generation) if generation else where.online)
    from features.online_stores.redis_rows import RedisRows

    return RedisRows(settings.redis_url.get_secret_value(), generation or in_use(settings) or "none")


def open_store(settings: Settings, generation: str | None = None, registry: Path | None = None) -> "FeatureStore":
    """Open the feature store of these settings; nothing is read or connected yet.

    Args:
        settings: Of the project.
        generation: Of the online store; by default the one in use.
        registry: Feast's registry; by default the one in use.
    """
    from feast import FeatureStore

    from features.repo import repo_config

    config = repo_config(registry or places(settings).registry, online_config(settings, generation))
    return FeatureStore(config=config)


def close_store(store: "FeatureStore") -> None:
    """Let go of the online store that `store` holds open."""
    online = store._get_provider().online_store  # Feast offers no public way to its store
    if hasattr(online, "disconnect"):
        online.disconnect()


def store_errors(settings: Settings) -> tuple[type[Exception], ...]:
    """Return what the chosen store raises when it cannot be reached, read or written."""
    if settings.online_store == "sqlite":
        import sqlite3

        return (sqlite3.Error, OSError)
    from redis.exceptions import RedisError

    return (RedisError, OSError)
