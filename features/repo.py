"""The Feast repo: entities, feature views and feature services over the Parquet tables of one folder.

The same definitions are used for a temporary registry (training), the registry below `var/feast` (serving) and Feast's
command line. A feature has the type of its column, so a source's own profile columns become features automatically.
"""

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RepoConfig,
    ValueType,
)
from feast.types import Array, Float32, Float64, Int32, Int64, String

from features.definitions import SERVICES, VIEW_MEANING, VIEWS, meaning_of, owner_of
from shoplens.errors import FeatureError
from shoplens.files import read_json

PROJECT = "shoplens"
SNAPSHOT_TTL = timedelta(days=2)  # snapshots are daily; a gap of two days means an outage or inactivity
NEVER_EXPIRES = timedelta(0)  # no age limit in Feast: a declared profile has no history and cannot be outdated
_TYPES = {
    pa.int32(): Int32,
    pa.int64(): Int64,
    pa.float32(): Float32,
    pa.float64(): Float64,
    pa.string(): String,
    pa.large_string(): String,
}


@dataclass(frozen=True)
class Definitions:
    """All Feast objects of the repo."""

    entities: dict[str, Entity]
    views: dict[str, FeatureView]
    services: dict[str, FeatureService]

    def objects(self) -> list[Any]:
        """Return all objects to apply, in a fixed order."""
        sources = [view.stream_source for view in self.views.values() if view.stream_source is not None]
        return [*self.entities.values(), *sources, *self.views.values(), *self.services.values()]


def feast_type(kind: pa.DataType) -> Any:
    """Return the Feast type of a column."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Array(feast_type(kind.value_type))
    if kind not in _TYPES:
        raise FeatureError(
            f"feature type: must be one of {', '.join(map(str, _TYPES))}, or a list of it; received {kind}"
        )
    return _TYPES[kind]


def _view(name: str, entity: Entity, folder: Path, ttl: timedelta, owner: str, online: bool = True) -> FeatureView:
    path = folder / f"{name}.parquet"
    try:
        columns = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FeatureError(f"{path}: cannot be read ({error}); run the stage `features`") from error
    source: Any = FileSource(name=f"{name}_file", path=str(path), timestamp_field="event_timestamp")
    if name == "recent_events":
        source = PushSource(name="recent_events_push", batch_source=source)
    features = [
        Field(name=column.name, dtype=feast_type(column.type), description=meaning_of(name, column.name))
        for column in columns
        if column.name not in {entity.join_key, "event_timestamp"}
    ]
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=ttl,
        schema=[Field(name=entity.join_key, dtype=String), *features],
        source=source,
        online=online,
        description=VIEW_MEANING[name],
        owner=owner,
    )


def definitions(folder: Path) -> Definitions:
    """Define the repo over the output tables of the stage `features` in `folder` (absolute).

    Raises:
        FeatureError: a table is missing, or a column's type is not a feature type.
    """
    about = read_json(folder / "features.json")
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="One person.")
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="One thing on sale.")
    views = {}

    def define(name: str, entity: Entity, ttl: timedelta, online: bool = True) -> None:
        views[name] = _view(name, entity, folder, ttl, owner_of(name, about["owners"]), online)

    for view in VIEWS:  # less frequent snapshots get a longer TTL
        ttl = SNAPSHOT_TTL + timedelta(days=(view.every or 1) - 1)
        define(view.name, user if view.keys == ("user_id",) else item, ttl, view.online)
    define("user_profile", user, NEVER_EXPIRES)
    define("recent_events", user, timedelta(days=about["active_days"]))

    def chosen(view: FeatureView, names: frozenset[str] | None) -> Any:
        return view if names is None else view[[f.name for f in view.features if f.name in names]]

    services = {
        one.name: FeatureService(
            name=one.name,
            features=[chosen(views[name], names) for name, names in one.reads.items()],
            description=one.meaning,
        )
        for one in SERVICES
    }
    return Definitions({"user": user, "item": item}, views, services)


def repo_config(registry: Path, online_store: dict[str, Any] | None) -> RepoConfig:
    """Return Feast's configuration for a registry file and an online store (None for offline only)."""
    return RepoConfig(
        project=PROJECT,
        provider="local",
        registry={"registry_type": "file", "path": str(registry), "cache_ttl_seconds": 0},
        offline_store={"type": "duckdb"},
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=registry.parent,
    )


def historical_features(keys: pl.DataFrame, features_dir: Path, service: str) -> pl.DataFrame:
    """Join each key with the latest snapshot at or before its time, unless it is older than the view's TTL.

    Args:
        keys: user_id (string) and event_timestamp (UTC), any order, repeats allowed.
        features_dir: `outs/features`.
        service: A feature service, e.g. "purchase".

    Returns:
        One row per key in the order of `keys`, one column per feature of the service; null if there is no snapshot.

    Raises:
        FeatureError: a column is missing, the service is unknown, or `features_dir` is incomplete.
    """
    missing = {"user_id", "event_timestamp"} - set(keys.columns)
    if missing:
        raise FeatureError(f"keys: must have user_id and event_timestamp; lacks {sorted(missing)}")
    repo = definitions(features_dir.resolve())
    if service not in repo.services:
        raise FeatureError(f"service: must be one of {', '.join(repo.services)}; received {service!r}")
    names = [f.name for p in repo.services[service].feature_view_projections for f in p.features]
    entities = keys.select(
        pl.col("user_id").cast(pl.String),
        pl.col("event_timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    ).with_row_index("row")
    with tempfile.TemporaryDirectory(prefix="shoplens-feast-") as folder:
        store = FeatureStore(config=repo_config(Path(folder) / "registry.db", online_store=None))
        store.apply(repo.objects())
        job = store.get_historical_features(entities.to_pandas(), store.get_feature_service(service))
        joined = pl.DataFrame(job.to_arrow())
    return joined.sort("row").select(names)
