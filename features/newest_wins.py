"""Feast's SQLite online store, where the newest value wins.

Feast's own store lets whichever write comes last win: pushing an older event, or materializing an older window again,
overwrites a newer value. Here a value is replaced only by one whose event time is the same or later, so writes may
come in any order and any number of times. Feast's Redis store already compares event times when it writes.

Event times are kept in microseconds UTC (Feast's own store keeps whole seconds, by way of the local time zone), in
the same tables. The class is named in Feast's configuration by its path.
"""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BUSY_SECONDS = 30  # how long a write waits for another process's write
STORE_TYPE: Literal["features.newest_wins.NewestWinsSqliteOnlineStore"] = (
    "features.newest_wins.NewestWinsSqliteOnlineStore"
)
Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class NewestWinsSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]  # Feast ships no types
    """Configuration: as Feast's SQLite store, by the class's own path."""

    type: Literal["features.newest_wins.NewestWinsSqliteOnlineStore"] = STORE_TYPE


def _micros(moment: datetime) -> int:
    """Return microseconds since 1970; a time without a zone is UTC, as everywhere in Feast."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - _EPOCH) // timedelta(microseconds=1)


class NewestWinsSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """SQLite in write-ahead mode: readers never wait for a writer, and a killed writer leaves the last whole write."""

    _conn: sqlite3.Connection | None = None

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if self._conn is None:
            connection = sqlite3.connect(self._get_db_path(config), timeout=_BUSY_SECONDS, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._conn = connection
        return self._conn

    def disconnect(self) -> None:
        """Close the connection; the last one to close brings the write-ahead log into the database file."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _table(self, config: RepoConfig, view: FeatureView) -> str:
        from feast.infra.online_stores.sqlite import _quote_id, _table_id

        name: str = _quote_id(_table_id(config.project, view, config.registry.enable_online_feature_view_versioning))
        return name

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows in one transaction, each value only where the stored one is not newer."""
        name = self._table(config, table)
        statement = (
            f"INSERT INTO {name} (entity_key, feature_name, value, event_ts, created_ts) "  # noqa: S608 - quoted by Feast
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
            "value = excluded.value, event_ts = excluded.event_ts, created_ts = excluded.created_ts "
            f"WHERE excluded.event_ts >= {name}.event_ts"
        )
        version = config.entity_key_serialization_version
        rows = []
        for key, values, moment, created in data:
            key_bytes = serialize_entity_key(key, entity_key_serialization_version=version)
            times = (_micros(moment), None if created is None else _micros(created))
            rows += [(key_bytes, feature, value.SerializeToString(), *times) for feature, value in values.items()]
        connection = self._get_conn(config)
        with connection:
            connection.executemany(statement, rows)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Return the event time and values of every key, in order; (None, None) where there is nothing."""
        version = config.entity_key_serialization_version
        keys = [serialize_entity_key(key, entity_key_serialization_version=version) for key in entity_keys]
        statement = (
            f"SELECT entity_key, feature_name, value, event_ts FROM {self._table(config, table)} "  # noqa: S608
            f"WHERE entity_key IN ({', '.join('?' * len(keys))})"
        )
        found: dict[bytes, tuple[datetime, dict[str, Value]]] = {}
        wanted = None if requested_features is None else set(requested_features)
        for key, feature, content, micros in self._get_conn(config).execute(statement, keys):
            if wanted is not None and feature not in wanted:
                continue
            value = Value()
            value.ParseFromString(content)
            _, values = found.setdefault(key, (_EPOCH + timedelta(microseconds=micros), {}))
            values[feature] = value
        return [found.get(key, (None, None)) for key in keys]
