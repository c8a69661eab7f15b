"""The rows of each task, with labels and targets, built from validated events and feature snapshots.

With user IDs (`identity: user`), there is a row per recently active user and weekly cut-off, counted back from the end
of the data. With sessions only (`identity: session`), there is a row just after each event; for the purchase label,
only before the first purchase.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.catalogue import Catalogue
from features.definitions import COMPUTED_FEATURES, NUMERIC_FEATURES
from features.histories import UserLog
from features.items import ItemTables, item_tables, table_times
from features.promotions import Promotions
from features.recent import order_key
from shoplens.errors import ModelError
from shoplens.files import read_json
from shoplens.params import Params, RowsParams
from training.rows import Inputs, RowSet, Task

_MOMENT = timedelta(microseconds=1)  # "just after": snapshots and histories only use strictly earlier events
_YEAR_WEEKS = 52
_TIME = pl.Datetime("us", "UTC")


def _known(events: pl.DataFrame) -> pl.DataFrame:
    """Add `known`, the later of event time and ingestion time, and `order_key`; drop events without a user."""
    return events.filter(pl.col("user_id").is_not_null()).with_columns(
        pl.max_horizontal("event_time", "ingested_at").alias("known"), order_key()
    )


def _cutoffs(start: datetime, high_water: datetime, rows: RowsParams) -> pl.DataFrame:
    """Return the weekly cut-offs (time, split), latest first: test, then validation, then train.

    Raises:
        ModelError: there are too few weeks.
    """
    horizon = timedelta(days=rows.horizon_days)
    first = start + timedelta(weeks=rows.warmup_weeks)
    times = []
    moment = high_water - horizon
    while moment >= first:
        times.append(moment)
        moment -= timedelta(weeks=1)
    # The label windows of two splits must not overlap, so a horizon of more than a week leaves weeks out between them.
    gap = -(-rows.horizon_days // 7) - 1
    splits = ["test"] * rows.test_weeks + ["gap"] * gap + ["validation"] * rows.validation_weeks + ["gap"] * gap
    splits += ["train"] * (len(times) - len(splits))
    if "train" not in splits or len(splits) > len(times):
        raise ModelError(
            f"train.rows: {len(times)} weekly cut-offs from {start:%Y-%m-%d} to {high_water:%Y-%m-%d} are too few for "
            f"test_weeks {rows.test_weeks}, validation_weeks {rows.validation_weeks} and warmup_weeks "
            f"{rows.warmup_weeks}. Lower them, or add data"
        )
    return pl.DataFrame({"time": times, "split": splits}, schema={"time": _TIME, "split": pl.String})


def _active_at(events: pl.DataFrame, cutoffs: pl.DataFrame, active_days: int) -> pl.DataFrame:
    """Return (user_id, time, split) for users with an event known in the `active_days` before a cut-off."""
    last = events.select("user_id", pl.col("known").alias("last")).unique().sort("last")
    pairs = (
        events.select("user_id")
        .unique()
        .join(cutoffs, how="cross")
        .with_columns((pl.col("time") - _MOMENT).alias("before"))
    )
    joined = pairs.sort("before").join_asof(
        last, left_on="before", right_on="last", by="user_id", strategy="backward", check_sortedness=False
    )
    active = pl.col("last") >= pl.col("time") - timedelta(days=active_days)
    return joined.filter(active & (pl.col("split") != "gap")).select("user_id", "time", "split")


def _next_purchase(events: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Add `next_time` and `order_key` of the first purchase at or after the time of each key."""
    bought = (
        events.filter(pl.col("event_name") == "purchase")
        .select("user_id", pl.col("event_time").alias("next_time"), "order_key")
        .sort("next_time", "order_key")
        .unique(["user_id", "next_time"], keep="first", maintain_order=True)
    )
    return keys.sort("time").join_asof(
        bought, left_on="time", right_on="next_time", by="user_id", strategy="forward", check_sortedness=False
    )


def _weekly(events: pl.DataFrame, dataset: dict[str, str], rows: RowsParams, active_days: int) -> pl.DataFrame:
    start, high_water = (datetime.fromisoformat(dataset[name]) for name in ("start", "high_water"))
    keys = _active_at(events, _cutoffs(start, high_water, rows), active_days)
    keys = _next_purchase(events, keys)
    within = pl.col("next_time") < pl.col("time") + timedelta(days=rows.horizon_days)
    return keys.with_columns(within.fill_null(value=False).alias("bought"))


def _session_splits(events: pl.DataFrame, rows: RowsParams) -> pl.DataFrame:
    """Return (user_id, split, until) by start; test and validation take `weeks / 52` of the latest sessions.

    `until` is the start of the next split, null for test: a session that goes on for weeks gives no row after it, or
    the models would learn from the time that they are tested on.
    """
    starts = events.group_by("user_id").agg(pl.col("event_time").min().alias("start")).sort("start", "user_id")
    test, validation = rows.test_weeks / _YEAR_WEEKS, rows.validation_weeks / _YEAR_WEEKS
    times = starts["start"]
    test_from = times.gather([min(len(times) - 1, int(len(times) * (1 - test)))]).item()
    validation_from = times.gather([int(len(times) * (1 - test - validation))]).item()
    split = (
        pl.when(pl.col("start") >= test_from)
        .then(pl.lit("test"))
        .when(pl.col("start") >= validation_from)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    until = (
        pl.when(split == "train")
        .then(pl.lit(validation_from))
        .when(split == "validation")
        .then(pl.lit(test_from))
        .cast(_TIME)
    )
    return starts.select("user_id", split.alias("split"), until.alias("until"))


def _after_events(events: pl.DataFrame, rows: RowsParams) -> pl.DataFrame:
    """Return one row just after each event of a session, with the item of the following event."""
    ordered = events.sort("user_id", "known", "event_id")
    after = ordered.select(
        "user_id",
        (pl.col("known") + _MOMENT).alias("time"),
        pl.col("item_id").shift(-1).over("user_id").alias("next_item"),
        pl.col("event_time").filter(pl.col("event_name") == "purchase").min().over("user_id").alias("first_purchase"),
    )
    # Simultaneous events form one row, just after the last of them.
    after = after.unique(["user_id", "time"], keep="last", maintain_order=True)
    after = after.join(_session_splits(events, rows), on="user_id", how="left", maintain_order="left")
    return after.filter(pl.col("until").is_null() | (pl.col("time") < pl.col("until")))


def purchase_keys(events: pl.DataFrame, dataset: dict[str, str], rows: RowsParams, active_days: int) -> pl.DataFrame:
    """Return (user_id, time, split, label), sorted by time and user; label: the user buys within the horizon."""
    known = _known(events)
    if dataset["identity"] == "session":
        keys = _after_events(known, rows)
        # Of a view that arrives late, the row's time decides: what happened before is not to be predicted.
        open_yet = pl.col("first_purchase").is_null() | (pl.col("time") <= pl.col("first_purchase"))
        keys = keys.filter(open_yet).with_columns(pl.col("first_purchase").is_not_null().alias("bought"))
    else:
        keys = _weekly(known, dataset, rows, active_days)
    label = pl.col("bought").cast(pl.Float32).alias("label")
    return keys.select("user_id", "time", "split", label).sort("time", "user_id")


def _basket_targets(keys: pl.DataFrame, known: pl.DataFrame, horizon: timedelta) -> pl.DataFrame:
    """Return (user_id, time, split, targets): the items of the first order within the label window.

    An order or session may have started before the cut-off; its earlier items are history, not targets.
    """
    lines = known.filter((pl.col("event_name") == "purchase") & pl.col("item_id").is_not_null())
    lines = lines.select("user_id", "order_key", "item_id", pl.col("event_time").alias("line_time"))
    joined = keys.join(lines, on=["user_id", "order_key"], how="inner")
    within = pl.col("line_time").is_between(pl.col("time"), pl.col("time") + horizon, closed="left")
    basket = pl.col("item_id").unique().sort().alias("targets")
    return joined.filter(within).group_by("user_id", "time", "split").agg(basket)


def next_item_keys(events: pl.DataFrame, dataset: dict[str, str], rows: RowsParams, active_days: int) -> pl.DataFrame:
    """Return (user_id, time, split, targets), sorted by time and user; `targets` holds the next item IDs."""
    known = _known(events)
    if dataset["identity"] == "session":
        keys = _after_events(known, rows).filter(pl.col("next_item").is_not_null())
        keys = keys.with_columns(pl.concat_list("next_item").alias("targets"))
        return keys.select("user_id", "time", "split", "targets").sort("time", "user_id")
    keys = _weekly(known, dataset, rows, active_days).filter(pl.col("bought"))
    return _basket_targets(keys, known, timedelta(days=rows.horizon_days)).sort("time", "user_id")


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
    """Return at most `limit` randomly chosen rows, in order."""
    if keys.height <= limit:
        return keys
    chosen = np.random.default_rng(seed).choice(keys.height, limit, replace=False)
    return keys[np.sort(chosen)]


def _limited(
    keys: pl.DataFrame, max_train_rows: int, max_held_out_rows: int, seed: int, *, newest: bool
) -> pl.DataFrame:
    """Return the rows of each split up to its limit; features are only computed for rows that are used.

    What is bought next follows the season, so with `newest` only the latest training rows are kept.
    """
    split = {name: keys.filter(pl.col("split") == name) for name in ("train", "validation", "test")}  # sorted by time
    train = split["train"].tail(max_train_rows) if newest else _sample(split["train"], max_train_rows, seed)
    held_out = [_sample(split[name], max_held_out_rows, seed) for name in ("validation", "test")]
    return pl.concat([train, *held_out])


def require_features(outs: Path) -> None:
    """Raise a ModelError if the outputs of the stage `features` are missing."""
    needed = ("validated/dataset.json", "validated/events.parquet", "features/catalogue.parquet")
    missing = [name for name in needed if not (outs / name).is_file()]
    if missing:
        raise ModelError(f"{outs}: {', '.join(missing)} must exist before training. Run `dvc repro features`")


def _item_tables(log: UserLog, catalogue: Catalogue, dataset: dict[str, str], times: Any, outs: Path) -> ItemTables:
    """Return the item tables that rows at `times` use, and the one as of the end of the data."""
    promotions = Promotions.read(outs / "features/promotions.parquet", times.min())
    start, end = (
        np.datetime64(datetime.fromisoformat(dataset[n]).replace(tzinfo=None), "us") for n in ("start", "high_water")
    )
    every = np.append(np.datetime64(0, "us"), table_times(start, end))  # the first has no events
    used = np.unique(np.searchsorted(every, times, side="right") - 1)
    return item_tables(log, catalogue.size, np.append(every[used[used < len(every) - 1]], end), promotions)


def _slow_features(task: Task, keys: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the slow features that the models of a task read, one line per row."""
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


def build_rows(task: Task, params: Params, outs: Path) -> Rows:
    """Build the rows of `task` from `outs/validated` and `outs/features`.

    Raises:
        ModelError: the stage `features` has not run, a split is empty, or all training rows have the same label.
    """
    require_features(outs)
    dataset = read_json(outs / "validated/dataset.json")
    events = pl.read_parquet(outs / "validated/events.parquet", columns=_COLUMNS)
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    make = purchase_keys if task == "purchase" else next_item_keys
    keys = make(events, dataset, params.train.rows, params.features.active_days)
    loop = params.train.purchase.loop if task == "purchase" else params.train.next_item.loop
    limits = loop.max_train_rows, params.train.rows.max_held_out_rows
    keys = _limited(keys, *limits, params.seed, newest=task == "next_item")
    log = UserLog.load(outs / "features/event_log")
    rows = RowSet(
        task,
        keys["user_id"].to_numpy().astype(str),
        inputs_at(task, keys, log, params, outs),
        keys["label"].to_numpy() if task == "purchase" else None,
        [catalogue.index_of(t) for t in keys["targets"].to_list()] if task == "next_item" else None,
        log,
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
