"""The Feast repo: entities, feature views and feature services over the Parquet tables of one folder.

The same definitions serve a throw-away registry (training), the registry below `var/feast` (serving) and Feast's own
command line. A feature's type is that of its column, so a source's own profile columns become features by themselves.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.types import Array, Float32, Float64, Int32, Int64, String

from features.definitions import RECENT_DESCRIPTIONS, SLOW_VIEWS, VIEW_MEANING, VIEWS, owner_of
from features.services import SERVICES
from features.user_profile import describe
from shoplens.errors import FeatureError
from shoplens.files import read_json

PROJECT = "shoplens"
SNAPSHOT_TTL = timedelta(days=2)  # snapshots are daily: one that is missing for two days is an outage, or inactivity
NEVER_EXPIRES = timedelta(0)  # Feast's word for "no age limit": a declared profile has no history to be too old
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
        """Return everything that is to be applied, in a fixed order."""
        sources = [view.stream_source for view in self.views.values() if view.stream_source is not None]
        return [*self.entities.values(), *sources, *self.views.values(), *self.services.values()]


def _dtype(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Array(_dtype(kind.value_type))
    if kind not in _TYPES:
        raise FeatureError(
            f"feature type: must be one of {', '.join(map(str, _TYPES))}, or a list of it; received {kind}"
        )
    return _TYPES[kind]


def _view(
    name: str, entities: list[Entity], folder: Path, ttl: timedelta, owner: str, online: bool = True
) -> FeatureView:
    path, keys = folder / f"{name}.parquet", [entity.join_key for entity in entities]
    known = {**SLOW_VIEWS.get(name, {}), **RECENT_DESCRIPTIONS}
    try:
        columns = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FeatureError(f"{path}: cannot be read ({error}); run the stage `features`") from error
    source: Any = FileSource(name=f"{name}_file", path=str(path), timestamp_field="event_timestamp")
    if name == "recent_events":
        source = PushSource(name="recent_events_push", batch_source=source)
    return FeatureView(
        name=name,
        entities=entities,
        ttl=ttl,
        schema=[
            *(Field(name=key, dtype=String) for key in keys),
            *(
                Field(name=c.name, dtype=_dtype(c.type), description=known.get(c.name) or describe(c.name))
                for c in columns
                if c.name not in {*keys, "event_timestamp"}
            ),
        ],
        source=source,
        online=online,
        description=VIEW_MEANING[name],
        owner=owner,
    )


def definitions(folder: Path) -> Definitions:
    """Define the repo over the tables in `folder` (absolute), as the stage `features` leaves them.

    Raises:
        FeatureError: a table is missing, or a column has a type that is no feature type.
    """
    about = read_json(folder / "features.json")
    active, owners = timedelta(days=about["active_days"]), about["owners"]
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="One person.")
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="One thing on sale.")
    by_key = {one.join_key: one for one in (user, item)}

    def defined(name: str, entities: list[Entity], ttl: timedelta, online: bool = True) -> FeatureView:
        return _view(name, entities, folder, ttl, owner_of(name, owners), online)

    views = {}
    for view in VIEWS:  # snapshots that are further apart live longer
        ttl = SNAPSHOT_TTL + timedelta(days=(view.every or 1) - 1)
        views[view.name] = defined(view.name, [by_key[key] for key in view.keys], ttl, view.online)
    views["user_profile"] = defined("user_profile", [user], NEVER_EXPIRES)
    views["recent_events"] = defined("recent_events", [user], active)

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
    """Return Feast's configuration for a registry file and an online store (None: offline only)."""
    return RepoConfig(
        project=PROJECT,
        provider="local",
        registry={"registry_type": "file", "path": str(registry), "cache_ttl_seconds": 0},
        offline_store={"type": "duckdb"},
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=registry.parent,
    )
