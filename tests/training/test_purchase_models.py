"""The purchase models on people who buy in rhythms of their own: they learn when, and predict without Keras."""

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.histories import UserLog
from features.visits import VISIT_FEATURES
from shoplens.params import SequenceLoopParams, SequenceNetworkParams
from training.calibration import check_calibration
from training.datasets import Rows
from training.explanations.shapley import PurchaseShapley, logit
from training.metrics import purchase_metrics
from training.models.blend import HazardBlend
from training.models.contract import Recipe
from training.models.days import DayGrid
from training.rows import Inputs, RowSet

pytestmark = pytest.mark.tensorflow
START = datetime(2024, 1, 1, 4, tzinfo=UTC)
WEEKS = {"train": range(8, 24), "validation": range(24, 26), "test": range(26, 30)}


def _events(random: np.random.Generator, users: int) -> pl.DataFrame:
    """Everybody buys every 3 to 25 days, some like clockwork, some not."""
    rows = []
    for user in range(users):
        gap, spread = random.uniform(3, 25), random.uniform(0.02, 0.5)
        day = random.uniform(0, gap)
        while day < 7 * 31:
            rows.append((f"u{user:03}", START + timedelta(days=day)))
            day += max(0.5, gap * random.lognormal(0, spread))
    return pl.DataFrame(rows, schema=["user_id", "event_time"], orient="row").with_columns(
        pl.col("event_time").cast(pl.Datetime("us", "UTC")),
        pl.col("event_time").cast(pl.Datetime("us", "UTC")).alias("ingested_at"),
        pl.lit("purchase").alias("event_name"),
        pl.lit("i2").alias("item_id"),
        pl.lit(1.0).alias("quantity"),
        pl.lit(5.0).alias("amount"),
        pl.lit(None, pl.String).alias("session_id"),
        pl.int_range(pl.len()).cast(pl.String).alias("event_id"),
        pl.int_range(pl.len()).cast(pl.String).alias("order_id"),
    )


@pytest.fixture(scope="module")
def world(catalogue) -> Rows:
    random = np.random.default_rng(8)
    events = _events(random, 200)
    log = UserLog.from_events(events, catalogue)
    bought = {user: group["event_time"].to_list() for (user,), group in events.group_by("user_id")}
    parts = {}
    for name, weeks in WEEKS.items():
        keys = [(user, START + timedelta(weeks=week)) for week in weeks for user in sorted(bought)]
        label = [any(t <= moment < t + timedelta(days=7) for moment in bought[user]) for user, t in keys]
        users = np.array([user for user, _ in keys])
        now = np.array([t.replace(tzinfo=None) for _, t in keys], dtype="datetime64[us]")
        slow = pl.DataFrame({"constant": np.ones(len(keys), dtype=np.float32)})
        inputs = Inputs.join(slow, log.as_of(users, now, 1000), now, VISIT_FEATURES)
        parts[name] = RowSet("purchase", users, inputs, np.array(label, dtype=np.float32), log=log)
    return Rows(**parts, learned_until=np.datetime64("2024-07-08", "us"))


@pytest.fixture(scope="module")
def own_recipe() -> Recipe:
    loop = SequenceLoopParams(
        epochs=5, patience=1, batch_size=256, learning_rate=0.01, optimizer="adam", max_train_rows=20_000
    )
    network = SequenceNetworkParams(length=8, width=32, blocks=2, heads=2, dropout=0.1)
    parts = ("boosted_trees", "hazard_network", "daily_network")
    return Recipe("purchase", network, loop, 7, "binary_crossentropy", members=2, blend=parts)


@pytest.fixture(scope="module")
def models(world: Rows, own_recipe: Recipe, catalogue) -> dict:
    from training.loop import prepare_device

    prepare_device("cpu")
    blend = HazardBlend(own_recipe, catalogue)
    blend.fit(world.train, world.validation, None)
    return {one.name: one for one in (*blend.parts, blend)}


def _auc(rows: RowSet, score: np.ndarray) -> float:
    return purchase_metrics(rows.labels, score.astype(np.float32))["roc_auc"]


@pytest.mark.parametrize("name", ["boosted_trees", "hazard_network", "daily_network", "hazard_blend"])
def test_models_learn_when_people_buy(name: str, world: Rows, models: dict) -> None:
    test = world.test
    rate = test.inputs.tabular[:, test.inputs.names.index("buy_rate_365d")]
    assert _auc(test, models[name].predict(test.inputs)) > _auc(test, rate) + 0.02, "more than how often somebody buys"


def test_the_blend_is_calibrated_and_reads_days(world: Rows, models: dict) -> None:
    blend, test = models["hazard_blend"], world.test
    assert [one.name for one in blend.parts] == ["boosted_trees", "hazard_network", "daily_network"]
    score = blend.predict(test.inputs)
    assert check_calibration(test.labels, score, seed=1).error < 0.06
    parts = [purchase_metrics(test.labels, one.predict(test.inputs))["log_loss"] for one in blend.parts]
    assert purchase_metrics(test.labels, score)["log_loss"] < np.mean(parts)


def test_the_last_purchase_matters_to_the_daily_network(world: Rows, models: dict) -> None:
    """Without the latest purchase the same people look as if theirs were due."""
    inputs = world.test.inputs
    earlier = dataclasses.replace(inputs.history, end=np.maximum(inputs.history.end - 1, inputs.history.begin))
    changed = models["daily_network"].logits(dataclasses.replace(inputs, history=earlier))
    assert np.abs(changed - models["daily_network"].logits(inputs)).mean() > 0.2


def test_numpy_and_keras_run_the_same_gru(world: Rows, models: dict) -> None:
    import keras
    from keras import layers, ops

    weights, rows = models["daily_network"]._weights, world.test.inputs.take(slice(0, 40))
    short = dataclasses.replace(rows.history, begin=np.maximum(rows.history.begin, rows.history.end - 3))
    rows = dataclasses.replace(rows, history=short)  # records of different lengths
    grid = DayGrid.read(rows.history, rows.now)
    assert len(set(grid.start.tolist())) > 5
    x = grid.channels()
    inner = ops.silu(x @ weights["in/kernel"] + weights["in/bias"])
    gru = layers.GRU(64)
    gru.build(inner.shape)
    gru.set_weights([weights["gru/kernel"], weights["gru/recurrent"], weights["gru/bias"]])
    state = gru(inner, mask=ops.convert_to_tensor(grid.on_record))
    both = ops.concatenate([state, inner[:, -1]], axis=1)
    hidden = ops.silu(both @ weights["hidden/kernel"] + weights["hidden/bias"])
    out = keras.ops.convert_to_numpy(hidden @ weights["out/kernel"] + weights["out/bias"])
    hazard = np.exp(out[:, : models["daily_network"]._within]).sum(axis=1)
    np.testing.assert_allclose(models["daily_network"].logits(rows), np.log(np.expm1(hazard)), rtol=1e-3, atol=1e-3)


def test_a_row_is_the_same_alone_and_among_others(world: Rows, models: dict) -> None:
    inputs = world.test.inputs
    for name, model in models.items():
        together = model.predict(inputs.take(slice(0, 5)))
        alone = np.concatenate([model.predict(inputs.take(slice(k, k + 1))) for k in range(5)])
        np.testing.assert_allclose(alone, together, rtol=1e-4, err_msg=name)


def test_effects_of_a_blend_that_reads_days_add_up_to_its_log_odds(world: Rows, models: dict) -> None:
    """Days are no tabular feature: what the daily network says is part of what the effects start from."""
    blend = models["hazard_blend"]
    shapley = PurchaseShapley(blend, world.validation.inputs.tabular[:8], 0)
    for k in range(3):
        one = world.test.inputs.take(slice(k, k + 1))
        effects, base = shapley.values(one)
        expected = pytest.approx(logit(blend.predict(one))[0], abs=1e-3)
        assert base + effects.sum() == expected
        assert shapley.score(one)(one.tabular)[0] == expected
        assert np.abs(effects).max() > 0.05
