"""A Feast online store in which the newest value wins, plugged in by class name in Feast's configuration.

Feast's SQLite store keeps the last write, and its Redis store reads the stored event time before writing, so with two
writers an older value can overwrite a newer one. Here the database itself replaces a row only if the new event time, in
microseconds, is the same or later, so writes may arrive in any order, repeatedly, and from any number of processes.
A write replaces the whole row: a feature that it lacks is missing afterwards.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from feast import Entity, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.type_map import feast_value_type_to_python_type
from pydantic import SecretStr

from features.online_stores.rows import RowStore
from features.online_stores.sqlite_rows import SqliteRows
from features.online_stores.views import Row, View
from shoplens.errors import FeatureError

StoreType = Literal["features.online_stores.feast_plugin.NewestWinsOnlineStore"]
STORE_TYPE: StoreType = "features.online_stores.feast_plugin.NewestWinsOnlineStore"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_Answer = tuple[datetime | None, dict[str, Value] | None]
_NAMES = {"float32": "float", "float64": "double"}  # other types have the same name in Feast's messages


def _to_message(kind: str, value: Any) -> Value:
    """Convert a value of one of `views.TYPES` to Feast's message; a missing value becomes an empty message."""
    if value is None:
        return Value()
    scalar, is_list = kind.removeprefix("array(").removesuffix(")"), kind.startswith("array(")
    field: dict[str, Any] = {f"{_NAMES.get(scalar, scalar)}{'_list' if is_list else ''}_val": value}
    if is_list:
        field = {name: {"val": values} for name, values in field.items()}
    return Value(**field)


def _key(view: View, key: EntityKey) -> str:
    """Return the key of a row, which must be a string with the name of the view's key."""
    if list(key.join_keys) != [view.key] or key.entity_values[0].WhichOneof("val") != "string_val":
        raise FeatureError(f"key of {view.name}: must be a string {view.key}; received {key.join_keys}")
    return str(key.entity_values[0].string_val)


class NewestWinsOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast ships no types
    """Configuration of `NewestWinsOnlineStore`: a SQLite file, or a Redis server and the name of a store in it.

    Attributes:
        type: Import path of the class.
        path: SQLite file, absolute or relative to the repo.
        url: redis://, rediss:// or unix:// address; hidden, because it may contain a password.
        name: Name of the store in Redis.
    """

    type: StoreType = STORE_TYPE
    path: str | None = None
    url: SecretStr | None = None
    name: str = ""


class NewestWinsOnlineStore(OnlineStore):  # type: ignore[misc]
    """Adapts a `RowStore` to Feast's interface."""

    def __init__(self) -> None:
        """Create the store; it opens on first use."""
        self._rows: RowStore | None = None
        self._views: dict[str, tuple[FeatureView, View]] = {}

    def rows(self, config: RepoConfig) -> RowStore:
        """Return the configured store, opening it on first use."""
        if self._rows is None:
            online = config.online_store
            if online.path is not None:
                self._rows = SqliteRows(Path(config.repo_path or ".") / online.path)
            else:
                from features.online_stores.redis_rows import RedisRows

                self._rows = RedisRows(online.url.get_secret_value(), online.name)
        return self._rows

    def _view(self, view: FeatureView) -> View:
        """Return the View of a Feast view, cached; Feast passes copies of one object that share their parts."""
        held = self._views.get(view.name)
        if held is None or held[0].features is not view.features or held[0].entity_columns is not view.entity_columns:
            held = self._views[view.name] = (view, View.of(view))
        return held[1]

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[Any], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows, never replacing a newer row; times without a zone are UTC, as everywhere in Feast."""
        view, rows = self._view(table), []
        for key, values, moment, _ in data:
            aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            features = tuple(feast_value_type_to_python_type(values.get(name, Value())) for name in view.names)
            rows.append(Row(_key(view, key), (aware - _EPOCH) // _MICROSECOND, features))
        self.rows(config).write(view, view.batch(rows))
        if progress:
            progress(len(data))

    def online_read(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[EntityKey], requested_features: Any = None
    ) -> list[_Answer]:
        """Return the event time and values of each key, in order; (None, None) if there is no row."""
        view = self._view(table)
        keys = [_key(view, key) for key in entity_keys]
        names = set(view.names if requested_features is None else requested_features)

        def answer(row: Row | None) -> _Answer:
            if row is None:
                return None, None
            named = zip(view.features, row.values, strict=True)
            values = {name: _to_message(kind, value) for (name, kind), value in named if name in names}
            return _EPOCH + row.event_micros * _MICROSECOND, values

        (found,) = self.rows(config).read([view], keys)
        return [answer(found.get(key)) for key in keys]

    def update(self, config: RepoConfig, *, tables_to_keep: Sequence[FeatureView], **_: Any) -> None:
        """Register new views; rows of deleted views stay until the next load, which creates a new store.

        Raises:
            FeatureError: a view's features changed, which requires a new store from `shoplens materialize`.
        """
        for view in tables_to_keep:
            if view.online:
                self.rows(config).prepare(View.of(view))

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Delete the store."""
        self.rows(config).remove()
        self.disconnect()

    def disconnect(self) -> None:
        """Close the store; the next use reopens it."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None
