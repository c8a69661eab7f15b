"""A tiny world that can be learned: those who bought often buy again, and what they bought."""

import numpy as np
import polars as pl
import pytest

from features.catalogue import COLUMNS, Catalogue
from features.recent import EVENT_CODES, RecentEvents
from shoplens.params import LoopParams, NetworkParams
from training.datasets import Rows
from training.models.contract import Recipe
from training.rows import Inputs, RowSet, Task

ITEMS, HISTORY = 12, 8


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    index = list(range(2, 2 + ITEMS))
    frame = pl.DataFrame(
        {
            "item_index": index,
            "item_id": [f"i{k}" for k in index],
            "category_1": ["food"] * ITEMS,
            "category_2": ["fruit", "bread"] * (ITEMS // 2),
            "brand": ["own"] * ITEMS,
            "title": [f"Item {k}" for k in index],
            "price_band": [1 + k % 3 for k in index],
            "category_1_code": [1] * ITEMS,
            "category_2_code": [1 + k % 2 for k in index],
            "brand_code": [1] * ITEMS,
        }
    )
    return Catalogue(frame.select(COLUMNS))


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
    recent = RecentEvents(
        np.where(valid, items, 0).astype(np.int32),
        np.where(valid, EVENT_CODES["purchase"], 0).astype(np.int8),
        np.where(valid, now[:, None] - hours, np.datetime64("NaT")).astype("datetime64[us]"),
        np.where(valid, 1, 0).astype(np.float32),
        np.where(valid, 2, 0).astype(np.float32),
        np.where(valid, 1, 0).astype(np.int32),
    )
    rate = (length / 4 + random.normal(0, 0.1, count)).astype(np.float32)
    noise = random.normal(size=count).astype(np.float32)
    noise[::7] = np.nan
    inputs = Inputs(("weekly_orders_90d", "noise"), np.stack([rate, noise], axis=1), recent, now)
    users = np.array([f"u{k % 40}" for k in range(count)])
    if task == "purchase":
        return RowSet(task, users, inputs, label=(random.random(count) < length / HISTORY).astype(np.float32))
    return RowSet(task, users, inputs, targets=[np.array([k], dtype=np.int32) for k in favourite])


@pytest.fixture(scope="session")
def make():
    return make_rows


@pytest.fixture(scope="session")
def rows():
    def build(task: Task) -> Rows:
        until = np.datetime64("2024-04-05", "us")
        return Rows(make_rows(task, 400, 1), make_rows(task, 100, 2), make_rows(task, 100, 3), until)

    return build


@pytest.fixture(scope="session")
def recipe():
    def build(task: Task, loss: str | None = None, epochs: int = 3) -> Recipe:
        network = NetworkParams(length=6, width=8, blocks=1, heads=2, dropout=0.1)
        loop = LoopParams(
            epochs=epochs, patience=2, batch_size=32, learning_rate=0.01, optimizer="adam", max_train_rows=1000
        )
        return Recipe(task, network, loop, loss or {"purchase": "binary_crossentropy"}.get(task, "softmax"), 7, 64)

    return build
