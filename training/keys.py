"""The keys of rows: the user, the time and the split of each row, with its label or targets.

With user IDs (`identity: user`), there is one row per recently active user and cut-off. Cut-offs are weekly in a log of
months, and counted back from the end of the data: the protocol `weekly_active`. A second test set, `as_served`, has
every known user at any moment of the test weeks, like the requests of a service. With sessions only (`identity:
session`), there is a row just after each event, `after_events`; for the purchase label, only until the first purchase.
"""

from datetime import timedelta

import polars as pl

from features.recent import TAKEN_BACK_NAMES, order_key
from shoplens.params import RowsParams
from training.moments import TIME, Timeline, served_moments

BOUGHT = pl.col("event_name") == "purchase"
_MOMENT = timedelta(microseconds=1)  # "just after": snapshots and histories only use strictly earlier events
_YEAR_WEEKS = 52


def _known(events: pl.DataFrame) -> pl.DataFrame:
    """Add `known`, the later of event time and ingestion time, and `order_key`; drop events without a user."""
    return events.filter(pl.col("user_id").is_not_null()).with_columns(
        pl.max_horizontal("event_time", "ingested_at").alias("known"), order_key()
    )


def _last_known(events: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Add `last`, the latest time before `time` at which an event of the user became known; drop unknown users."""
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

    The latter include every user known at the time; there are none without a seed or with a single test cut-off. With
    `rows.lapsed`, training rows also include every known user.
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
    """Return (user_id, split, until), sorted by the start of the session.

    The latest `test_weeks / 52` of the sessions are the test split, and `validation_weeks / 52` before them validation.
    `until` is the start of the next split, null for test. A session that lasts for weeks has no rows after it, or the
    models would learn from the time that they are tested on.
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

    With a `seed`, logs with user IDs have a fourth split, `served`.
    """
    known = _known(events)
    if dataset["identity"] == "session":
        keys = _after_events(known, rows)
        # The row's time decides, even if its event arrived late: a purchase before that time is not to be predicted.
        open_yet = pl.col("first_purchase").is_null() | (pl.col("time") <= pl.col("first_purchase"))
        keys = keys.filter(open_yet).with_columns(pl.col("first_purchase").is_not_null().alias("bought"))
    else:
        timeline = Timeline.of(dataset, rows)
        asked = _asked(known, timeline, rows, active_days, seed)
        keys = _first_ahead(known.filter(BOUGHT), asked).with_columns(_within(timeline.horizon).alias("bought"))
    label = pl.col("bought").cast(pl.Float32).alias("label")
    return keys.select("user_id", "time", "split", label).sort("time", "user_id")


def _basket_targets(keys: pl.DataFrame, lines: pl.DataFrame, horizon: timedelta) -> pl.DataFrame:
    """Return (user_id, time, split, targets): the items of the first order or session within the label window.

    If it started before the cut-off, its earlier items are history, not targets.
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

    In a log with user IDs, they are the items of the next basket or, if the log has no purchases, of the next session.
    With a `seed`, such logs have a fourth split, `served`.
    """
    known = _known(events)
    if dataset["identity"] == "session":
        keys = _after_events(known, rows).filter(pl.col("next_item").is_not_null())
        keys = keys.with_columns(pl.concat_list("next_item").alias("targets"))
        return keys.select("user_id", "time", "split", "targets").sort("time", "user_id")
    timeline = Timeline.of(dataset, rows)
    has_item = pl.col("item_id").is_not_null()
    ahead = known.filter(BOUGHT)
    if ahead.filter(has_item).is_empty():
        ahead = known.filter(has_item & ~pl.col("event_name").is_in(TAKEN_BACK_NAMES))
    keys = _first_ahead(ahead, _asked(known, timeline, rows, active_days, seed)).filter(_within(timeline.horizon))
    return _basket_targets(keys, ahead.filter(has_item), timeline.horizon).sort("time", "user_id")
