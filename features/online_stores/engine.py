"""Feast's own `materialize` at the speed of the store: a compute engine, by Feast's plug-in point.

Feast's local engine makes a message of every value. This one hands what the offline store answers to the rows below as
it is. `shoplens materialize` does not come this way: a task of Feast is a whole window of time, which can be neither
resumed nor held in bounded memory.
"""

from typing import Any, Literal

from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry

from features.online_stores.plugins import NewestWinsOnlineStore
from features.online_stores.shape import ViewShape
from shoplens.errors import FeatureError

EngineType = Literal["features.online_stores.engine.RowsComputeEngine"]
ENGINE_TYPE: EngineType = "features.online_stores.engine.RowsComputeEngine"
_BATCH_ROWS = 32_768


class RowsComputeEngineConfig(LocalComputeEngineConfig):  # type: ignore[misc]  # Feast ships no types
    """Configuration of `RowsComputeEngine`."""

    type: EngineType = ENGINE_TYPE


class RowsComputeEngine(LocalComputeEngine):  # type: ignore[misc]
    """Feast's local engine, but for how rows come online."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view, config = task.feature_view, self.repo_config
        if not isinstance(self.online_store, NewestWinsOnlineStore):
            raise FeatureError(f"online_store: must be one of features.online_stores; received {self.online_store}")
        shape = ViewShape.of(view)
        latest = self.offline_store.pull_latest_from_table_or_query(
            config=config,
            data_source=view.batch_source,
            join_key_columns=list(shape.keys),
            feature_name_columns=list(shape.names),
            timestamp_field=view.batch_source.timestamp_field,
            created_timestamp_column=None,
            start_date=task.start_time,
            end_date=task.end_time,
        ).to_arrow()
        rows = self.online_store.rows(config)
        for batch in latest.to_batches(max_chunksize=_BATCH_ROWS):
            rows.load(shape, batch)
        job = f"{view.name}-{task.start_time}-{task.end_time}"
        return LocalMaterializationJob(job_id=job, status=MaterializationJobStatus.SUCCEEDED)
