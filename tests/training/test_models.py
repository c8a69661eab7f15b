import dataclasses
from pathlib import Path

import numpy as np
import pytest

from features.catalogue import Catalogue
from features.items import NAMES as ITEM_NAMES
from features.items import ItemTables
from shoplens.errors import ModelError
from shoplens.files import folder_digest, read_json
from training.metrics import purchase_metrics, ranking_metrics
from training.models import artifact
from training.models.artifact import RemappedPredictor
from training.models.contract import model_class, model_names
from training.models.ranking import rank_all
from training.models.scaler import Scaler

pytestmark = pytest.mark.tensorflow
CASES = [(task, name) for task in ("purchase", "next_item") for name in model_names(task)]


def train(name, task, rows, recipe, catalogue, loss=None, epochs=3):
    from training.loop import prepare_device

    prepare_device("cpu")
    model = model_class(name)(recipe(task, loss, epochs), catalogue)
    found = rows(task)
    model.fit(found.train, found.validation, None)
    return model, found


@pytest.mark.parametrize(("task", "name"), CASES)
def test_every_model_trains_saves_and_loads(task, name, rows, recipe, catalogue, tmp_path: Path) -> None:
    model, found = train(name, task, rows, recipe, catalogue)
    inputs = found.test.inputs
    model.threshold = 0.3
    artifact.save(model, inputs.names, found.learned_until, tmp_path / "kept")
    back = artifact.load(tmp_path / "kept")
    assert (back.name, back.task, back.threshold) == (name, task, 0.3)
    if "scaler" in (kept := read_json(tmp_path / "kept/model.json")["kept"]):  # of the training rows, and of no other
        scaling = getattr(model, "scaling", Scaler)
        assert kept["scaler"] == scaling.fit(found.train.inputs).as_json()
        assert kept["scaler"] != scaling.fit(found.test.inputs).as_json()
    one = inputs.take(slice(4, 5))
    if task == "purchase":
        before, after, alone = model.predict(inputs), back.predict(inputs), back.predict(one)
        assert after.shape == (100,)
        assert ((after >= 0) & (after <= 1)).all()
    else:
        ranked = back.recommend(inputs, 10)
        assert (ranked.items >= 2).all()
        assert all(len(set(row)) == 10 for row in ranked.items.tolist()), "each item once"
        before, after, alone = model.recommend(inputs, 10).scores, ranked.scores, back.recommend(one, 10).scores
        assert (np.diff(after, axis=1) <= 0).all()
        np.testing.assert_array_equal(model.recommend(inputs, 10).items, ranked.items)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    np.testing.assert_allclose(alone, after[4:5], rtol=1e-4, atol=1e-6, err_msg="a row alone is as among others")


@pytest.mark.parametrize("name", [name for task, name in CASES if task == "purchase"])
def test_a_feature_that_is_always_missing_is_accepted(name, rows, recipe, catalogue) -> None:
    """A log without brands has no share of the favourite brand: a whole column is missing, in serving perhaps not."""
    found = rows("purchase")
    column = found.train.inputs.names.index("noise")
    for part in (found.train, found.validation):
        part.inputs.tabular[:, column] = np.nan
    model = model_class(name)(recipe("purchase", epochs=1), catalogue)
    model.fit(found.train, found.validation, None)
    assert np.isfinite(model.predict(found.test.inputs)).all()


def test_a_loss_that_does_not_stay_finite_raises(rows, recipe, catalogue) -> None:
    wild = recipe("purchase", epochs=1)
    wild = dataclasses.replace(wild, loop=wild.loop.model_copy(update={"learning_rate": 1e38}))
    found = rows("purchase")
    with pytest.raises(ModelError, match=r"train\.purchase\.loop\.learning_rate: the loss must stay finite"):
        model_class("cnn")(wild, catalogue).fit(found.train, found.validation, None)


def require_skill(model, found) -> None:
    """Fail for an untrained model: the ROC AUC of random weights may be high, but their log loss is .60 at best."""
    reached = purchase_metrics(found.test.labels, model.predict(found.test.inputs))
    assert reached["roc_auc"] > 0.7
    assert reached["log_loss"] < 0.58, "the base rate has .665"


@pytest.mark.parametrize(
    "name", [name for task, name in CASES if task == "purchase" and name not in ("base_rate", "daily_network")]
)
def test_models_learn_who_buys(name, rows, recipe, catalogue) -> None:
    model, found = train(name, "purchase", rows, recipe, catalogue, epochs=8)
    require_skill(model, found)


def test_popularity_is_that_of_each_rows_own_time(rows, recipe, catalogue) -> None:
    """Not that of the training rows, which are sampled and may lie far back: early purchases no longer count."""
    found = rows("next_item")
    times = np.array(["2024-01-01", "2024-03-01"], "datetime64[us]")
    tables = np.zeros((2, catalogue.size, len(ITEM_NAMES)), np.float32)
    tables[0, 3], tables[1, 5] = 9, 4  # item 3 was popular, item 5 is
    tables[1, 3] = 1
    inputs = dataclasses.replace(found.test.inputs.take(slice(0, 2)), items=ItemTables(times, tables))
    inputs.now[:] = np.array(["2024-02-29", "2024-03-01"], "datetime64[us]")
    model = model_class("popularity")(recipe("next_item"), catalogue)
    model.fit(found.train, found.validation, None)
    assert model.recommend(inputs, 2).items[:, 0].tolist() == [3, 5]


@pytest.mark.parametrize("name", ["decayed_frequency", "tifu_knn", "up_cf", "ease", "lambdarank", "listwise_ranker"])
def test_models_learn_the_favourite_item(name, rows, recipe, catalogue) -> None:
    model, found = train(name, "next_item", rows, recipe, catalogue)
    ranked = rank_all(model, found.test.inputs, k=10)
    padded = np.concatenate([ranked, np.zeros((len(ranked), 10), np.int32)], axis=1)
    hit = ranking_metrics(padded, found.test.target_sets)["ndcg@10"].mean()
    assert hit > 0.8, "by chance 10 of 12 items hold it, at a mean ndcg of about 0.4"


def test_training_twice_gives_the_same_bytes(rows, recipe, catalogue, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for task, name in (
            *(("purchase", "transformer"), ("purchase", "boosted_trees"), ("purchase", "hazard_network")),
            ("next_item", "listwise_ranker"),
        ):
            model, found = train(name, task, rows, recipe, catalogue, epochs=1)
            artifact.save(model, found.train.inputs.names, found.learned_until, tmp_path / folder / task / name)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")


def test_no_two_dropout_layers_draw_the_same_masks(rows, recipe, catalogue) -> None:
    from keras import layers

    two = recipe("purchase")
    two = dataclasses.replace(two, network=two.network.model_copy(update={"blocks": 3}))
    for name in ("cnn", "lstm", "transformer"):
        model = model_class(name)(two, catalogue)
        model.scaler = Scaler.fit(rows("purchase").train.inputs)
        model.build()
        seeds = [
            layer.seed
            for layer in model.network.layers
            if isinstance(layer, layers.Dropout | layers.MultiHeadAttention)
        ]
        assert len(seeds) >= 3, name
        assert len(set(seeds)) == len(seeds), name


def test_what_the_focal_loss_teaches_is_served_as_a_probability(rows, recipe, catalogue) -> None:
    """Of rows that features do not tell apart a tenth buys: the loss itself is smallest at a score of a quarter."""
    found = rows("purchase")
    for part in (found.train, found.validation, found.test):
        part.inputs.tabular[:] = 0
        part.label[:] = np.random.default_rng(4).random(len(part)) < 0.1
    model = model_class("cnn")(recipe("purchase", "binary_focal_crossentropy", epochs=12), catalogue)
    model.fit(found.train, found.validation, None)
    assert model.predict(found.test.inputs).mean() == pytest.approx(0.1, abs=0.04)


def test_the_threshold_follows_the_cost_of_a_false_alarm(rows, recipe, catalogue) -> None:
    from training.fit import train_model

    found = rows("purchase")
    chosen = []
    for cost in (0.1, 3.0):
        own = dataclasses.replace(recipe("purchase"), false_alarm_cost=cost)
        model = train_model("decision_tree", own, found, catalogue)
        chosen.append(model.threshold)
        score, bought = model.predict(found.validation.inputs), found.validation.labels > 0
        called = [score >= one for one in (model.threshold, 0.5)]
        costs = [(bought & ~one).sum() + cost * (~bought & one).sum() for one in called]
        assert costs[0] < costs[1]
    assert chosen[0] < 0.5 < chosen[1]


@pytest.mark.parametrize(  # adam trains the other models here
    ("optimizer", "learning_rate"), [("adamw", 0.01), ("sgd", 0.3), ("rmsprop", 0.01), ("lion", 0.003)]
)
def test_every_optimizer_trains(optimizer, learning_rate, rows, recipe, catalogue) -> None:
    given, found = recipe("purchase"), rows("purchase")
    loop = given.loop.model_copy(update={"optimizer": optimizer, "learning_rate": learning_rate})
    model = model_class("cnn")(dataclasses.replace(given, loop=loop), catalogue)
    model.fit(found.train, found.validation, None)
    require_skill(model, found)
    used = model.network.optimizer
    assert (used.global_clipnorm, used.clipnorm) == (1.0, None), "gradients are clipped together"


def test_an_untrained_network_has_no_skill(rows, recipe, catalogue) -> None:
    given, found = recipe("purchase", epochs=1), rows("purchase")
    still = given.loop.model_copy(update={"learning_rate": 1e-9})
    model = model_class("hazard_network")(dataclasses.replace(given, loop=still), catalogue)
    model.fit(found.train, found.validation, None)
    with pytest.raises(AssertionError):
        require_skill(model, found)


def test_a_causal_model_does_not_read_the_future(rows, recipe, catalogue) -> None:
    """The vector of an event must not change with events after it."""
    import keras

    for name in ("transformer", "cnn", "lstm"):
        model = model_class(name)(recipe("purchase"), catalogue)
        given, valid = keras.Input((6, 8)), keras.Input((6,), dtype="bool")
        encoder = keras.Model([given, valid], model.encode(given, valid))
        there = np.ones((1, 6), dtype=bool)
        events = np.random.default_rng(0).normal(size=(1, 6, 8)).astype(np.float32)
        changed = events.copy()
        # Not a constant shift: layer normalization takes that away, and the test could not fail.
        changed[:, 4:] = np.random.default_rng(1).normal(size=(1, 2, 8))
        same = np.abs(encoder([events, there]).numpy() - encoder([changed, there]).numpy())[0].max(axis=-1)
        assert same[:4].max() < 1e-6, name
        assert same[4:].min() > 1e-3, name


def test_padding_does_not_influence_predictions(rows, recipe, catalogue) -> None:
    import keras

    for name in ("transformer", "cnn", "lstm"):
        model = model_class(name)(recipe("purchase"), catalogue)
        given, valid = keras.Input((6, 8)), keras.Input((6,), dtype="bool")
        encoder = keras.Model([given, valid], model.encode(given, valid))
        for weight in encoder.weights:  # biases start at zero: padding would be zero by luck
            weight.assign(weight + 0.1)
        there = np.array([[False, False, False, True, True, True]])
        events = np.random.default_rng(0).normal(size=(1, 6, 8)).astype(np.float32)
        other = events.copy()
        other[:, :3] = np.random.default_rng(1).normal(size=(1, 3, 8))
        difference = np.abs(encoder([events, there]).numpy() - encoder([other, there]).numpy())[0, 3:]
        assert difference.max() < 1e-6, name


def test_a_remapped_model_refers_to_the_same_items(rows, recipe, catalogue, tmp_path: Path) -> None:
    model, found = train("decayed_frequency", "next_item", rows, recipe, catalogue)
    artifact.save(model, found.test.inputs.names, found.learned_until, tmp_path / "kept")
    # The same items, numbered backwards.
    frame = catalogue.frame.reverse().with_columns(item_index=catalogue.frame["item_index"])
    here = Catalogue(frame)
    table = np.concatenate([[0, 1], here.index_of(catalogue.frame["item_id"].to_list())]).astype(np.int32)
    from dataclasses import replace

    inputs = found.test.inputs
    log = inputs.history.log
    moved = replace(
        inputs,
        history=replace(inputs.history, log=replace(log, item_index=table[log.item_index])),
        items=inputs.item_tables.moved(table),  # backwards is its own inverse
    )
    found_here = RemappedPredictor(artifact.load(tmp_path / "kept"), here).recommend(moved, 10)
    expected = model.recommend(inputs, 10)
    np.testing.assert_array_equal(found_here.scores, expected.scores)
    best = expected.scores[:, 0] > expected.scores[:, 1]  # of equal scores the lower index comes first, here another
    np.testing.assert_array_equal(found_here.items[best, 0], table[expected.items[best, 0]])
    assert best.sum() > 50


def test_an_unsupported_task_is_rejected(recipe, catalogue) -> None:
    with pytest.raises(ModelError, match="decision_tree does not support task next_item; it supports purchase"):
        model_class("decision_tree")(recipe("next_item"), catalogue)
    with pytest.raises(ModelError, match="received 'oracle'"):
        model_class("oracle")


def test_missing_features_are_reported(rows, recipe, catalogue, tmp_path: Path) -> None:
    model, found = train("decision_tree", "purchase", rows, recipe, catalogue)
    artifact.save(model, found.test.inputs.names, found.learned_until, tmp_path / "kept")
    with pytest.raises(ModelError, match="missing: noise"):
        artifact.load(tmp_path / "kept").predict(found.test.inputs.select(("weekly_orders_90d",)))


def test_a_missing_gpu_raises() -> None:
    import tensorflow as tf

    from training.loop import prepare_device

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match=r"make env GPU=1"):
        prepare_device("gpu")


def test_learning_curves_have_no_timestamps(rows, recipe, catalogue, tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []
    for name in ("one", "two"):
        model = model_class("cnn")(recipe("purchase"), catalogue)
        model.report = lambda share, figure: seen.append((share, figure))
        found = rows("purchase")
        model.fit(found.train, found.validation, tmp_path / name)
    assert [share for share, _ in seen] == pytest.approx([1 / 3, 2 / 3, 1] * 2), "and reports each epoch"
    assert seen[1][1] > seen[0][1]
    assert seen[:3] == seen[3:]
    assert (tmp_path / "one/plots/metrics/validation/loss.tsv").read_text().startswith("step\tloss\n0\t")
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")


def test_rows_survive_saving_and_loading(make, tmp_path: Path) -> None:
    from training.rows import Inputs, RowSet

    without_features = make("next_item", 50, 5)
    given = without_features.inputs
    bare = Inputs((), given.tabular[:, :0], given.history, given.now, given.items)
    for name, found in {
        "purchase": make("purchase", 50, 5),
        "next_item": without_features,
        "bare": dataclasses.replace(without_features, inputs=bare),
    }.items():
        task = found.task
        found.save(tmp_path / name)
        back = RowSet.load(tmp_path / name)
        assert len(back.inputs) == len(found)
        np.testing.assert_array_equal(back.inputs.tabular, found.inputs.tabular)
        for column in ("item_index", "event_time", "amount", "order_code"):
            mine, kept = (getattr(one.inputs.history.window(8), column) for one in (found, back))
            np.testing.assert_array_equal(mine, kept)
        assert back.inputs.names == found.inputs.names
        if task == "purchase":
            np.testing.assert_array_equal(back.labels, found.labels)
        else:
            assert [t.tolist() for t in back.target_sets] == [t.tolist() for t in found.target_sets]
            tables, used = back.inputs.item_tables, found.inputs.item_tables.used(found.inputs.now)
            np.testing.assert_array_equal(tables.times, used.times)
            np.testing.assert_array_equal(tables.values, used.values)


def test_parts_of_a_blend_keep_files_of_their_own(rows, recipe, catalogue, tmp_path: Path) -> None:
    found = rows("purchase")
    parts = ("boosted_trees", "tuned_trees")
    model = model_class("hazard_blend")(dataclasses.replace(recipe("purchase"), blend=parts), catalogue)
    model.fit(found.train, found.validation, None)
    artifact.save(model, found.test.inputs.names, found.learned_until, tmp_path / "kept")
    back = artifact.load(tmp_path / "kept").model
    for one, loaded in zip(model.parts, back.parts, strict=True):
        np.testing.assert_array_equal(loaded.logits(found.test.inputs), one.logits(found.test.inputs))
    assert not np.array_equal(*(one.logits(found.test.inputs) for one in back.parts))
