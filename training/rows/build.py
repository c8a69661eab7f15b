"""Builds the row sets of a task from validated events and feature snapshots."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.catalogue import Catalogue
from features.definitions import NUMERIC_FEATURES
from features.recent import recent_as_of
from shoplens.errors import ModelError
from shoplens.files import read_json
from shoplens.params import Params
from training.rows.inputs import Inputs
from training.rows.keys import next_item_keys, purchase_keys
from training.rows.rowset import RowSet, Task

_COLUMNS = [
    "event_id", "event_time", "ingested_at", "event_name", "user_id", "session_id", "order_id", "item_id", "quantity",
    "amount",
]  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The three splits of a task.

    Attributes:
        learned_until: End of the last label window used for training or early stopping (UTC).
    """

    train: RowSet
    validation: RowSet
    test: RowSet
    learned_until: np.datetime64


def _sample(keys: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    """Return at most `limit` randomly chosen rows, in order. Features are only computed for rows that are used."""
    if keys.height <= limit:
        return keys
    chosen = np.random.default_rng(seed).choice(keys.height, limit, replace=False)
    return keys[np.sort(chosen)]


def require_features(outs: Path) -> None:
    """Raise a ModelError if the outputs of the stage `features` are missing."""
    needed = ("validated/dataset.json", "validated/events.parquet", "features/catalogue.parquet")
    missing = [name for name in needed if not (outs / name).is_file()]
    if missing:
        raise ModelError(f"{outs}: {', '.join(missing)} must exist before training. Run `dvc repro features`")


def build_rows(task: Task, params: Params, outs: Path) -> Rows:
    """Build the rows of `task` from `outs/validated` and `outs/features`.

    Raises:
        ModelError: the stage `features` has not run, a split is empty, or all training rows have the same label.
    """
    from features.repo import historical_features  # loads Feast, which takes a second

    require_features(outs)
    dataset = read_json(outs / "validated/dataset.json")
    events = pl.read_parquet(outs / "validated/events.parquet", columns=_COLUMNS)
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    make = purchase_keys if task == "purchase" else next_item_keys
    keys = make(events, dataset, params.train.rows, params.features.active_days)
    loop = params.train.purchase.loop if task == "purchase" else params.train.next_item.loop
    train = _sample(keys.filter(pl.col("split") == "train"), loop.max_train_rows, params.seed)
    keys = pl.concat([train, keys.filter(pl.col("split") != "train")])
    slow = historical_features(keys.select("user_id", event_timestamp="time"), outs / "features", task)
    users, times = keys["user_id"].to_numpy().astype(str), keys["time"].dt.replace_time_zone(None).to_numpy()
    recent = recent_as_of(events, users, times, params.features.last_n, catalogue)
    rows = RowSet(
        task,
        users,
        Inputs.join(slow.select(NUMERIC_FEATURES[task]), recent, times),
        keys["label"].to_numpy() if task == "purchase" else None,
        [catalogue.index_of(t) for t in keys["targets"].to_list()] if task == "next_item" else None,
    )
    parts = {name: rows.take(np.flatnonzero(keys["split"] == name)) for name in ("train", "validation", "test")}
    for name, part in parts.items():
        if len(part) == 0:
            raise ModelError(f"train.rows: the {name} split of {task} is empty. Add data, or change the weeks")
    if task == "purchase" and len(np.unique(parts["train"].labels)) < 2:
        label = int(parts["train"].labels[0])
        raise ModelError(
            f"train.purchase: training rows must have both labels; all {len(parts['train']):,} have label {label}. "
            f"{'No user has a purchase' if label == 0 else 'Every user always buys'}: check event_names in the "
            f"mapping, and train.rows"
        )
    last = max(parts[name].inputs.now.max() for name in ("train", "validation"))
    days = params.train.rows.horizon_days if dataset["identity"] == "user" else 0
    return Rows(**parts, learned_until=np.datetime64(last + np.timedelta64(days, "D"), "us"))
