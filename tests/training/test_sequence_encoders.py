"""Every encoder: no state sees the future, another user's events, or padding; sizes and dropout seeds."""

import keras
import numpy as np
import pytest

from shoplens.errors import ModelError
from training.models.sequence.encoder import Size
from training.models.sequence.model import SequenceModel
from training.models.sequence.presets import ENCODERS, PRESETS, encoder_class, preset

pytestmark = pytest.mark.tensorflow

LENGTH, ITEMS = 12, 30
SIZE = Size(width=8, blocks=2, heads=2, length=LENGTH, dropout=0.5)


@pytest.fixture(scope="module", params=ENCODERS)
def model(request):
    keras.utils.set_random_seed(3)
    return SequenceModel(ITEMS, request.param, SIZE, time_aware=encoder_class(request.param).reads_time)


def packed():
    """Two users of 5 and 4 events, and three places of padding."""
    random = np.random.default_rng(0)
    time = np.sort(random.integers(0, 10**6, (1, LENGTH))).astype(np.int32)
    return {
        "item": np.array([[3, 9, 9, 1, 30, 4, 4, 17, 2, 0, 0, 0]], np.int32),
        "segment": np.array([[1] * 5 + [2] * 4 + [0] * 3], np.int32),
        "position": np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 0]], np.int32),
        "time": time,
        "asked": time + 100,
    }


def changed(batch, name, place, value):
    batch = {key: array.copy() for key, array in batch.items()}
    batch[name][0, place] = value
    return batch


def test_a_future_item_changes_no_earlier_state(model):
    before, after = model.states(packed()), model.states(changed(packed(), "item", 3, 22))
    np.testing.assert_array_equal(before[0, :3], after[0, :3])
    assert np.abs(before[0, 3:5] - after[0, 3:5]).max(axis=1).min() > 1e-4


def test_a_later_moment_changes_no_earlier_state(model):
    later = changed(changed(packed(), "time", slice(3, 12), 2 * 10**6), "asked", slice(3, 12), 2 * 10**6 + 100)
    before, after = model.states(packed()), model.states(later)
    np.testing.assert_array_equal(before[0, :3], after[0, :3])
    assert model.encoder.reads_time == bool(np.abs(before[0, 3] - after[0, 3]).max() > 1e-4)


def test_users_of_one_row_do_not_see_each_other(model):
    before, after = model.states(packed()), model.states(changed(packed(), "item", slice(0, 5), [8, 7, 6, 5, 4]))
    np.testing.assert_array_equal(before[0, 5:9], after[0, 5:9])


def test_padding_changes_no_state(model):
    alone = {name: np.zeros_like(array) for name, array in packed().items()}
    for name, array in packed().items():
        alone[name][0, :4] = array[0, 5:9]
    alone["segment"][0, :4] = 1
    np.testing.assert_allclose(model.states(alone)[0, :4], model.states(packed())[0, 5:9], atol=2e-6)


def test_the_moment_asked_can_be_left_out():
    keras.utils.set_random_seed(3)
    model = SequenceModel(ITEMS, "hstu", SIZE)
    before, after = model.states(packed()), model.states(changed(packed(), "asked", slice(None), 5 * 10**6))
    np.testing.assert_array_equal(before, after)


def test_every_dropout_layer_has_a_seed_of_its_own(model):
    layers = [one for one in model._flatten_layers() if isinstance(one, keras.layers.Dropout)]
    assert len({one.seed for one in layers}) == len(layers) >= SIZE.blocks + 1


def test_an_encoder_without_times_cannot_be_time_aware():
    with pytest.raises(ModelError, match=r"time_aware: sasrec does not read times. Use hstu"):
        SequenceModel(ITEMS, "sasrec", SIZE, time_aware=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encoder_class("bert"), "model: must be one of sasrec, .*; received 'bert'"),
        (lambda: preset("huge"), "preset: must be one of tiny, small, base, large; received 'huge'"),
        (lambda: Size(width=10, heads=4), "heads: must divide width 10; received 4"),
    ],
)
def test_wrong_names_and_sizes_are_rejected(call, message):
    with pytest.raises(ModelError, match=message):
        call()


def test_parameters_of_a_small_sasrec_by_hand():
    size = PRESETS["small"]
    model = SequenceModel(100, "sasrec", size)
    model.states({name: np.zeros((1, 200), np.int32) for name in packed()})
    attention = 64 * 192 + 64 * 64 + 64
    forward = 64 * 256 + 256 + 256 * 64 + 64
    assert model.describe()["parameters"] == 101 * 64 + 200 * 64 + 2 * (attention + forward + 4 * 64) + 2 * 64
    assert model.describe()["parameters_without_items"] == model.describe()["parameters"] - 101 * 64
