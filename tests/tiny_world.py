"""A tiny world that can be learned: those who bought often buy again, and what they bought."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.catalogue import COLUMNS, Catalogue
from features.histories import EventLog, Histories, UserLog
from features.items import item_tables
from features.recent import EVENT_CODES
from shoplens.params import CandidateParams, LoopParams, NetworkParams, SequenceLoopParams, SequenceNetworkParams
from training.datasets import Protocol, Rows
from training.models.contract import Recipe
from training.rows import Inputs, RowSet, Task

ITEMS, HISTORY = 12, 8
_CANDIDATES = CandidateParams(memory=8, neighbours=4, popular=3)


def tiny_catalogue() -> Catalogue:
    index = list(range(2, 2 + ITEMS))
    frame = pl.DataFrame(
        {
            "item_index": index,
            "item_id": [f"i{k}" for k in index],
            "category_1": ["food"] * ITEMS,
            "category_2": ["fruit", "bread"] * (ITEMS // 2),
            "category_3": [None] * ITEMS,
            "brand": ["own"] * ITEMS,
            "title": [f"Item {k}" for k in index],
            "price_band": [1 + k % 3 for k in index],
            "category_1_code": [1] * ITEMS,
            "category_2_code": [1 + k % 2 for k in index],
            "category_3_code": [0] * ITEMS,
            "brand_code": [1] * ITEMS,
        }
    )
    return Catalogue(frame.select(COLUMNS))


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return tiny_catalogue()


def make_rows(task: Task, count: int, seed: int) -> RowSet:
    random = np.random.default_rng(seed)
    length = random.integers(1, HISTORY + 1, count)
    valid = np.arange(HISTORY)[None, :] >= HISTORY - length[:, None]
    favourite = random.integers(2, 2 + ITEMS, count)
    items = np.where(
        random.random((count, HISTORY)) < 0.8, favourite[:, None], random.integers(2, 14, (count, HISTORY))
    )
    now = np.datetime64("2024-03-01", "us") + random.integers(0, 28, count).astype("timedelta64[D]")
    hours = np.arange(HISTORY, 0, -1)[None, :] * np.timedelta64(5, "h")
    times, events = (now[:, None] - hours)[valid], int(valid.sum())
    log = EventLog(
        items[valid].astype(np.int32),
        np.full(events, EVENT_CODES["purchase"], dtype=np.int8),
        times,
        times,
        np.full(events, 1, dtype=np.float32),
        np.full(events, 2, dtype=np.float32),
        np.repeat(np.arange(count), length).astype(np.int32),
    )
    history = Histories(log, np.cumsum(length) - length, np.cumsum(length))
    places = pl.DataFrame({"user_id": [f"r{k}" for k in range(count)], "begin": history.begin, "end": history.end})
    users_log = UserLog(places, log)
    rate = (length / 4 + random.normal(0, 0.1, count)).astype(np.float32)
    noise = random.normal(size=count).astype(np.float32)
    noise[::7] = np.nan
    inputs = Inputs(("weekly_orders_90d", "noise"), np.stack([rate, noise], axis=1), history, now)
    users = np.array([f"u{k % 40}" for k in range(count)])
    if task == "purchase":
        label = (random.random(count) < length / HISTORY).astype(np.float32)
        return RowSet(task, users, inputs, label=label, log=users_log)
    weeks = np.datetime64("2024-02-26", "us") + np.arange(5) * np.timedelta64(7, "D")
    inputs = replace(inputs, items=item_tables(users_log, 2 + ITEMS, weeks))
    return RowSet(task, users, inputs, targets=[np.array([k], dtype=np.int32) for k in favourite], log=users_log)


@pytest.fixture(scope="session")
def make():
    return make_rows


@pytest.fixture(scope="session")
def rows():
    def build(task: Task) -> Rows:
        until = np.datetime64("2024-04-05", "us")
        parts = make_rows(task, 400, 1), make_rows(task, 100, 2), make_rows(task, 100, 3)
        return Rows(*parts, until, Protocol("weekly_active", horizon_days=7, every_days=7))

    return build


@pytest.fixture(scope="session")
def recipe():
    def build(task: Task, loss: str | None = None, epochs: int = 3) -> Recipe:
        own = {"candidates": _CANDIDATES, "members": 2}
        if task == "next_item":
            network = NetworkParams(width=8, dropout=0.1)
            loop = LoopParams(epochs=epochs, batch_size=32, learning_rate=0.01, max_train_rows=1000)
            return Recipe(task, network, loop, 7, **own)
        network = SequenceNetworkParams(length=6, width=8, blocks=1, heads=2, dropout=0.1)
        loop = SequenceLoopParams(
            epochs=epochs, patience=2, batch_size=32, learning_rate=0.01, optimizer="adam", max_train_rows=1000
        )
        return Recipe(task, network, loop, 7, loss or "binary_crossentropy", **own)

    return build
