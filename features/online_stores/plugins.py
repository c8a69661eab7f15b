"""Feast's online stores where the newest value wins, by Feast's plug-in point: a class named in its configuration.

Feast's SQLite store lets whichever write comes last win, and its Redis store reads the stored event time and then
writes, so that two writers can put an older value over a newer one. Here a row is replaced only by one whose event
time, in microseconds, is the same or later, decided where the row is kept, so writes may come in any order, any number
of times, from any number of processes. A row is written whole: a feature that a write does not have is missing then.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from feast import Entity, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from features.online_stores.protos import from_proto, key_of, to_proto
from features.online_stores.rows import RowStore
from features.online_stores.shape import Row, ViewShape
from features.online_stores.sqlite_rows import SqliteRows

SqliteType = Literal["features.online_stores.plugins.NewestWinsSqliteOnlineStore"]
SQLITE_TYPE: SqliteType = "features.online_stores.plugins.NewestWinsSqliteOnlineStore"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


def _micros(moment: datetime) -> int:
    """Return microseconds since 1970; a time without a zone is UTC, as everywhere in Feast."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - _EPOCH) // _MICROSECOND


class NewestWinsOnlineStore(OnlineStore):  # type: ignore[misc]  # Feast ships no types
    """Feast's face of a `RowStore`."""

    _rows: RowStore | None = None

    def __init__(self) -> None:
        """Open nothing yet."""
        self._shapes: dict[str, tuple[FeatureView, ViewShape]] = {}

    @abstractmethod
    def _open(self, config: RepoConfig) -> RowStore:
        """Return the rows of this configuration."""

    def rows(self, config: RepoConfig) -> RowStore:
        """Return the rows below, opened when first asked for."""
        if self._rows is None:
            self._rows = self._open(config)
        return self._rows

    def _shape(self, view: FeatureView) -> ViewShape:
        """Return the shape of a view; Feast asks with copies of one object again and again, which share their parts."""
        held = self._shapes.get(view.name)
        if held is None or held[0].features is not view.features or held[0].entity_columns is not view.entity_columns:
            held = self._shapes[view.name] = (view, ViewShape.of(view))
        return held[1]

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[FeastRow], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows, all or none, each only over one that is not newer."""
        shape = self._shape(table)
        self.rows(config).write(
            shape,
            [
                Row(key_of(shape, key), _micros(moment), tuple(from_proto(values.get(name)) for name in shape.names))
                for key, values, moment, _ in data
            ],
        )
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
        shape = self._shape(table)
        keys = [key_of(shape, key) for key in entity_keys]
        names = shape.names if requested_features is None else tuple(requested_features)
        kinds = [dict(shape.features)[name] for name in names]
        found = self.rows(config).read(shape, keys, names)
        answers: dict[tuple[str, ...], tuple[datetime | None, dict[str, Value] | None]] = {}
        for key, row in found.items():
            values = {name: to_proto(*one) for name, *one in zip(names, kinds, row.values, strict=True)}
            answers[key] = (_EPOCH + row.event_micros * _MICROSECOND, values)
        return [answers.get(key, (None, None)) for key in keys]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Fit the store to definitions: new, removed and retyped features of every online view."""
        rows = self.rows(config)
        for view in tables_to_delete:
            rows.drop(view.name)
        for view in tables_to_keep:
            if view.online:
                rows.prepare(ViewShape.of(view))

    def disconnect(self) -> None:
        """Let go of the store; the next use opens it again."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None


class NewestWinsSqliteOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """Configuration of `NewestWinsSqliteOnlineStore`: the file, absolute or relative to the repo."""

    type: SqliteType = SQLITE_TYPE
    path: str


class NewestWinsSqliteOnlineStore(NewestWinsOnlineStore):
    """SQLite: a table for each view, see `sqlite_rows`."""

    def _open(self, config: RepoConfig) -> SqliteRows:
        return SqliteRows(self._path(config))

    def _path(self, config: RepoConfig) -> Path:
        return Path(config.repo_path or ".") / str(config.online_store.path)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Remove the file."""
        self.disconnect()
        self._path(config).unlink(missing_ok=True)
