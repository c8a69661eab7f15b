"""The rows of each task, with labels and targets, built from validated events and feature snapshots.

With user IDs (`identity: user`), there is a row per recently active user and cut-off, weekly in a log of months,
counted back from the end of the data: the protocol `weekly_active`. A second test set, `as_served`, asks about every
known user at any moment of the test weeks, as a service is asked. With sessions only (`identity: session`), there is a
row just after each event, `after_events`; for the purchase label, only before the first purchase.
"""

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
from features.recent import TAKEN_BACK_NAMES, order_key
from shoplens.errors import ModelError, NothingToLearnError
from shoplens.files import read_json
from shoplens.params import Params, RowsParams
from training.moments import TIME, Timeline, served_moments, words
from training.rows import Inputs, RowSet, Task

_DAY = timedelta(days=1)
_MOMENT = timedelta(microseconds=1)  # "just after": snapshots and histories only use strictly earlier events
_YEAR_WEEKS = 52
_HELD_OUT = ("validation", "test", "served")
_BOUGHT = pl.col("event_name") == "purchase"


def _known(events: pl.DataFrame) -> pl.DataFrame:
    """Add `known`, the later of event time and ingestion time, and `order_key`; drop events without a user."""
    return events.filter(pl.col("user_id").is_not_null()).with_columns(
        pl.max_horizontal("event_time", "ingested_at").alias("known"), order_key()
    )


def _last_known(events: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Add `last`, when the user's newest event before `time` became known, to (user_id, time); drop unknown users."""
    last = events.select("user_id", pl.col("known").alias("last")).unique().sort("last")
    before = asked.with_columns((pl.col("time") - _MOMENT).alias("before")).sort("before")
    joined = before.join_asof(
        last, left_on="before", right_on="last", by="user_id", strategy="backward", check_sortedness=False
    )
    return joined.drop("before").drop_nulls("last")


def _asked(
    events: pl.DataFrame, timeline: Timeline, rows: RowsParams, active_days: int, seed: int | None
) -> pl.DataFrame:
    """Return (user_id, time, split): users with an event in the `active_days` before a cut-off, and `served` rows.

    The latter are of every user who is known at the time; without a seed, or within a single cut-off, there are none.
    With `rows.lapsed`, training rows are of every known user, too.
    """
    users = events["user_id"].unique()
    cutoffs = timeline.cutoffs.filter(pl.col("split") != "gap")
    weekly = _last_known(events, users.to_frame().join(cutoffs, how="cross"))
    active = pl.col("last") >= pl.col("time") - timedelta(days=active_days)
    asked = [weekly.filter(active | (pl.col("split") == "train") & rows.lapsed)]
    if seed is not None and rows.test_weeks > 1:
        served = served_moments(users, timeline, rows.test_weeks, seed)
        asked.append(_last_known(events, served.with_columns(split=pl.lit("served"))))
    return pl.concat([one.select("user_id", "time", "split") for one in asked])


def _first_ahead(events: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Add `next_time` and `order_key` of the user's first of `events` at or after each time."""
    ahead = (
        events.select("user_id", pl.col("event_time").alias("next_time"), "order_key")
        .sort("next_time", "order_key")
        .unique(["user_id", "next_time"], keep="first", maintain_order=True)
    )
    return asked.sort("time").join_asof(
        ahead, left_on="time", right_on="next_time", by="user_id", strategy="forward", check_sortedness=False
    )


def _within(horizon: timedelta) -> pl.Expr:
    return (pl.col("next_time") < pl.col("time") + horizon).fill_null(value=False)


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
        .cast(TIME)
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


def purchase_keys(
    events: pl.DataFrame, dataset: dict[str, str], rows: RowsParams, active_days: int, seed: int | None = None
) -> pl.DataFrame:
    """Return (user_id, time, split, label), sorted by time and user; label: the user buys within the horizon.

    With a `seed`, logs with user IDs have rows of a fourth split, `served`.
    """
    known = _known(events)
    if dataset["identity"] == "session":
        keys = _after_events(known, rows)
        # Of a view that arrives late, the row's time decides: what happened before is not to be predicted.
        open_yet = pl.col("first_purchase").is_null() | (pl.col("time") <= pl.col("first_purchase"))
        keys = keys.filter(open_yet).with_columns(pl.col("first_purchase").is_not_null().alias("bought"))
    else:
        timeline = Timeline.of(dataset, rows)
        asked = _asked(known, timeline, rows, active_days, seed)
        keys = _first_ahead(known.filter(_BOUGHT), asked).with_columns(_within(timeline.horizon).alias("bought"))
    label = pl.col("bought").cast(pl.Float32).alias("label")
    return keys.select("user_id", "time", "split", label).sort("time", "user_id")


def _basket_targets(keys: pl.DataFrame, lines: pl.DataFrame, horizon: timedelta) -> pl.DataFrame:
    """Return (user_id, time, split, targets): the items of the first order or session within the label window.

    It may have started before the cut-off; its earlier items are history, not targets.
    """
    lines = lines.select("user_id", "order_key", "item_id", pl.col("event_time").alias("line_time"))
    joined = keys.join(lines, on=["user_id", "order_key"], how="inner")
    within = pl.col("line_time").is_between(pl.col("time"), pl.col("time") + horizon, closed="left")
    basket = pl.col("item_id").unique().sort().alias("targets")
    return joined.filter(within).group_by("user_id", "time", "split").agg(basket)


def next_item_keys(
    events: pl.DataFrame, dataset: dict[str, str], rows: RowsParams, active_days: int, seed: int | None = None
) -> pl.DataFrame:
    """Return (user_id, time, split, targets), sorted by time and user; `targets` holds the next item IDs.

    In a log with user IDs they are those of the next basket or, where nobody ever buys, of the next session. With a
    `seed`, such logs have rows of a fourth split, `served`.
    """
    known = _known(events)
    if dataset["identity"] == "session":
        keys = _after_events(known, rows).filter(pl.col("next_item").is_not_null())
        keys = keys.with_columns(pl.concat_list("next_item").alias("targets"))
        return keys.select("user_id", "time", "split", "targets").sort("time", "user_id")
    timeline = Timeline.of(dataset, rows)
    has_item = pl.col("item_id").is_not_null()
    ahead = known.filter(_BOUGHT)
    if ahead.filter(has_item).is_empty():
        ahead = known.filter(has_item & ~pl.col("event_name").is_in(TAKEN_BACK_NAMES))
    keys = _first_ahead(ahead, _asked(known, timeline, rows, active_days, seed)).filter(_within(timeline.horizon))
    return _basket_targets(keys, ahead.filter(has_item), timeline.horizon).sort("time", "user_id")


_COLUMNS = [
    "event_id", "event_time", "ingested_at", "event_name", "user_id", "session_id", "order_id", "item_id", "quantity",
    "amount",
]  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How rows were made.

    Attributes:
        name: weekly_active (users active before a cut-off) or after_events (just after each event of a session).
        horizon_days: How far the label looks ahead; of sessions, what a service states, for there it is their rest.
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
        protocol: How train, validation and test were made.
        served: A second test set, asked as a service is; None where `test` is already asked so, or has one cut-off.
    """

    train: RowSet
    validation: RowSet
    test: RowSet
    learned_until: np.datetime64
    protocol: Protocol
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

    What is bought next follows the season, so with `newest` only the latest training rows are kept.
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


def _item_tables(log: UserLog, catalogue: Catalogue, dataset: dict[str, str], times: Any) -> ItemTables:
    """Return the item tables that rows at `times` use, and the one as of the end of the data."""
    start, end = (
        np.datetime64(datetime.fromisoformat(dataset[n]).replace(tzinfo=None), "us") for n in ("start", "high_water")
    )
    every = np.append(np.datetime64(0, "us"), table_times(start, end))  # the first has no events
    used = np.unique(np.searchsorted(every, times, side="right") - 1)
    return item_tables(log, catalogue.size, np.append(every[used[used < len(every) - 1]], end))


def _slow_features(task: Task, keys: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the slow features that the models of a task read, one line per row."""
    if task not in NUMERIC_FEATURES:
        return pl.DataFrame()
    from features.repo import historical_features  # loads Feast, which takes a second

    found = historical_features(keys.select("user_id", event_timestamp="time"), folder, task)
    return found.select(NUMERIC_FEATURES[task])


def _require_events(task: Task, events: pl.DataFrame) -> None:
    """Raise a NothingToLearnError if no event of a person is what a model of `task` predicts."""
    wanted, what = (_BOUGHT, "a purchase") if task == "purchase" else (pl.col("item_id").is_not_null(), "of an item")
    if events.filter(pl.col("user_id").is_not_null() & wanted).is_empty():
        raise NothingToLearnError(
            f"train.{task}: at least one event of a user must be {what}; none of {events.height:,} is. "
            f"If the log has any, check the mapping"
        )


def _require_rows(task: Task, parts: dict[str, RowSet]) -> None:
    """Raise a NothingToLearnError if a split is empty, or all training rows have the same label."""
    for name in ("train", "validation", "test"):
        if len(parts[name]) == 0:
            raise NothingToLearnError(
                f"train.rows: the {name} split of {task} must have rows; it is empty. Add data, or change the weeks"
            )
    if task == "purchase" and len(np.unique(parts["train"].labels)) < 2:
        label = int(parts["train"].labels[0])
        raise NothingToLearnError(
            f"train.purchase: training rows must have both labels; all {len(parts['train']):,} have label {label}. "
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
    slow = _slow_features(task, keys, outs / "features")
    users, times = keys["user_id"].to_numpy().astype(str), keys["time"].dt.replace_time_zone(None).to_numpy()
    log = UserLog.load(outs / "features/event_log")
    history = log.as_of(users, times, params.features.last_n)
    items = _item_tables(log, catalogue, dataset, times) if task == "next_item" else None
    rows = RowSet(
        task,
        users,
        Inputs.join(slow, history, times, COMPUTED_FEATURES.get(task, ()), items),
        keys["label"].to_numpy() if task == "purchase" else None,
        [catalogue.index_of(t) for t in keys["targets"].to_list()] if task == "next_item" else None,
        log,
    )
    parts = {name: rows.take(np.flatnonzero(keys["split"] == name)) for name in ("train", *_HELD_OUT)}
    _require_rows(task, parts)
    served = parts.pop("served")
    last = max(parts[name].inputs.now.max() for name in ("train", "validation"))
    protocol = Protocol.of(dataset, params.train.rows)
    days = protocol.horizon_days if dataset["identity"] == "user" else 0
    until = np.datetime64(last + np.timedelta64(timedelta(days=days)), "us")
    return Rows(**parts, learned_until=until, protocol=protocol, served=served if len(served) else None)
