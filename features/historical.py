"""Features as they were: the point-in-time join of daily snapshots, through Feast on a throw-away registry."""

import tempfile
from pathlib import Path

import polars as pl

from shoplens.errors import FeatureError


def historical_features(keys: pl.DataFrame, features_dir: Path, service: str) -> pl.DataFrame:
    """Join to every key the latest snapshot at or before its time, unless that is older than the view's time to live.

    Args:
        keys: user_id (string) and event_timestamp (UTC), any order, repeats allowed.
        features_dir: `outs/features`.
        service: A feature service, e.g. "purchase".

    Returns:
        One row per key in the order of `keys`, one column per feature of the service; null where there is no snapshot.

    Raises:
        FeatureError: a column is missing, the service is unknown, or `features_dir` is not whole.
    """
    missing = {"user_id", "event_timestamp"} - set(keys.columns)
    if missing:
        raise FeatureError(f"keys: must have user_id and event_timestamp; lacks {sorted(missing)}")
    from feast import FeatureStore

    from features.repo import definitions, repo_config

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
