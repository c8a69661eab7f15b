"""The rows of each task: keys (`training.keys`), with inputs from validated events and feature snapshots."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from features.catalogue import Catalogue
from features.definitions import COMPUTED_FEATURES, NUMERIC_FEATURES
from features.histories import UserLog
from features.items import ItemTables, item_tables, table_times
from features.promotions import Promotions
from shoplens.errors import ModelError, NothingToLearnError
from shoplens.files import read_json
from shoplens.params import Params, RowsParams
from training.keys import BOUGHT, next_item_keys, purchase_keys
from training.moments import Timeline, words
from training.rows import Inputs, RowSet, Task

_DAY = timedelta(days=1)
_HELD_OUT = ("validation", "test", "served")


_COLUMNS = [
    "event_id", "event_time", "ingested_at", "event_name", "user_id", "session_id", "order_id", "item_id", "quantity",
    "amount",
]  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How rows were made.

    Attributes:
        name: weekly_active (users active before a cut-off) or after_events (just after each event of a session).
        horizon_days: Length of the label window. For sessions, whose label is about the rest of the session, it is only
            what a service states.
        every_days: Time between cut-offs; None without cut-offs.
    """

    name: Literal["weekly_active", "after_events"]
    horizon_days: float
    every_days: float | None = None

    @classmethod
    def of(cls, dataset: dict[str, str], rows: RowsParams) -> "Protocol":
        """Return the protocol of a log."""
        if dataset["identity"] == "session":
            return cls("after_events", rows.horizon_days)
        timeline = Timeline.of(dataset, rows)
        return cls("weekly_active", timeline.horizon / _DAY, timeline.step / _DAY)

    def __str__(self) -> str:
        if self.every_days is None:
            return self.name
        step, horizon = (words(timedelta(days=days)) for days in (self.every_days, self.horizon_days))
        return f"{self.name}, cut-offs {step} apart, label horizon {horizon}"


@dataclass(frozen=True)
class Rows:
    """The splits of a task.

    Attributes:
        learned_until: End of the last label window used for training or early stopping (UTC).
        protocol: How train, validation and test were made; None for rows that do not come from a log.
        served: A second test set that resembles the requests of a service; None if `test` already does, or has only
            one cut-off.
    """

    train: RowSet
    validation: RowSet
    test: RowSet
    learned_until: np.datetime64
    protocol: Protocol | None = None
    served: RowSet | None = None


def _sample(keys: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    """Return at most `limit` randomly chosen rows, in order."""
    if keys.height <= limit:
        return keys
    chosen = np.random.default_rng(seed).choice(keys.height, limit, replace=False)
    return keys[np.sort(chosen)]


def _limited(
    keys: pl.DataFrame, max_train_rows: int, max_held_out_rows: int, seed: int, *, newest: bool
) -> pl.DataFrame:
    """Return the rows of each split up to its limit; features are only computed for rows that are used.

    The next item depends on the season, so with `newest` only the latest training rows are kept.
    """
    split = {name: keys.filter(pl.col("split") == name) for name in ("train", *_HELD_OUT)}  # sorted by time
    train = split["train"].tail(max_train_rows) if newest else _sample(split["train"], max_train_rows, seed)
    return pl.concat([train, *(_sample(split[name], max_held_out_rows, seed) for name in _HELD_OUT)])


def require_features(outs: Path) -> None:
    """Raise a ModelError if the outputs of the stage `features` are missing."""
    needed = ("validated/dataset.json", "validated/events.parquet", "features/catalogue.parquet")
    missing = [name for name in needed if not (outs / name).is_file()]
    if missing:
        raise ModelError(f"{outs}: {', '.join(missing)} must exist before training. Run `dvc repro features`")


def _item_tables(log: UserLog, catalogue: Catalogue, dataset: dict[str, str], times: Any, outs: Path) -> ItemTables:
    """Return the item tables that rows at `times` use, and the one as of the end of the data."""
    promotions = Promotions.read(outs / "features/promotions.parquet")
    start, end = (
        np.datetime64(datetime.fromisoformat(dataset[n]).replace(tzinfo=None), "us") for n in ("start", "high_water")
    )
    every = np.append(np.datetime64(0, "us"), table_times(start, end))  # the first has no events
    used = np.unique(np.searchsorted(every, times, side="right") - 1)
    return item_tables(log, catalogue.size, np.append(every[used[used < len(every) - 1]], end), promotions)


def _slow_features(task: Task, keys: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the slow features that the models of a task read, one row per key."""
    if task not in NUMERIC_FEATURES:
        return pl.DataFrame()
    from features.repo import historical_features  # loads Feast, which takes a second

    found = historical_features(keys.select("user_id", event_timestamp="time"), folder, task)
    return found.select(NUMERIC_FEATURES[task])


def inputs_at(task: Task, keys: pl.DataFrame, log: UserLog, params: Params, outs: Path) -> Inputs:
    """Return the inputs of `task` at each key, (user_id, time); `outs` has the outputs of the stage `features`."""
    dataset, catalogue = read_json(outs / "validated/dataset.json"), Catalogue.load(outs / "features/catalogue.parquet")
    slow = _slow_features(task, keys, outs / "features")
    times = keys["time"].dt.replace_time_zone(None).to_numpy()
    history = log.as_of(keys["user_id"].to_numpy().astype(str), times, params.features.last_n)
    items = _item_tables(log, catalogue, dataset, times, outs) if task == "next_item" else None
    return Inputs.join(slow, history, times, COMPUTED_FEATURES.get(task, ()), items)


def _require_events(task: Task, events: pl.DataFrame) -> None:
    """Raise a NothingToLearnError if no user has an event of the kind that a model of `task` predicts."""
    wanted, what = (BOUGHT, "a purchase") if task == "purchase" else (pl.col("item_id").is_not_null(), "of an item")
    if events.filter(pl.col("user_id").is_not_null() & wanted).is_empty():
        raise NothingToLearnError(
            f"train.{task}: at least one event of a user must be {what}; none of {events.height:,} is. "
            f"If the log has any, check the mapping"
        )


def _require_rows(task: Task, keys: pl.DataFrame) -> None:
    """Raise a NothingToLearnError if a split is empty, or all training rows have the same label."""
    splits = set(keys["split"])
    for name in ("train", "validation", "test"):
        if name not in splits:
            raise NothingToLearnError(
                f"train.rows: the {name} split of {task} must have rows; it is empty. Add data, or change the weeks"
            )
    if task == "purchase":
        labels = keys.filter(pl.col("split") == "train")["label"]
        if labels.n_unique() < 2:
            raise NothingToLearnError(
                f"train.purchase: training rows must have both labels; all {len(labels):,} have label {labels[0]:.0f}. "
                f"Check event_names in the mapping, and train.rows"
            )


def build_rows(task: Task, params: Params, outs: Path) -> Rows:
    """Build the rows of `task` from `outs/validated` and `outs/features`.

    Raises:
        ModelError: the stage `features` has not run, or the log is too short.
        NothingToLearnError: the log has no purchases or items, a split is empty, or all training rows have one label.
    """
    require_features(outs)
    dataset = read_json(outs / "validated/dataset.json")
    events = pl.read_parquet(outs / "validated/events.parquet", columns=_COLUMNS)
    _require_events(task, events)
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    make = purchase_keys if task == "purchase" else next_item_keys
    keys = make(events, dataset, params.train.rows, params.features.active_days, params.seed)
    loop = params.train.purchase.loop if task == "purchase" else params.train.next_item.loop
    limits = loop.max_train_rows, params.train.rows.max_held_out_rows
    keys = _limited(keys, *limits, params.seed, newest=task == "next_item")
    _require_rows(task, keys)
    log = UserLog.load(outs / "features/event_log")
    rows = RowSet(
        task,
        keys["user_id"].to_numpy().astype(str),
        inputs_at(task, keys, log, params, outs),
        keys["label"].to_numpy() if task == "purchase" else None,
        [catalogue.index_of(t) for t in keys["targets"].to_list()] if task == "next_item" else None,
        log,
    )
    parts = {name: rows.take(np.flatnonzero(keys["split"] == name)) for name in ("train", *_HELD_OUT)}
    served = parts.pop("served")
    last = max(parts[name].inputs.now.max() for name in ("train", "validation"))
    protocol = Protocol.of(dataset, params.train.rows)
    days = protocol.horizon_days if dataset["identity"] == "user" else 0
    until = np.datetime64(last + np.timedelta64(timedelta(days=days)), "us")
    return Rows(**parts, learned_until=until, protocol=protocol, served=served if len(served) else None)
