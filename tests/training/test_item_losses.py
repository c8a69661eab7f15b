"""Losses over a catalogue against naive NumPy; gradients against those of the backend."""

import numpy as np
import pytest
from keras import ops

from shoplens.params import LoopParams
from training.loop import averaged_adamw
from training.models import losses
from training.models.sequence.negatives import Negatives

pytestmark = pytest.mark.tensorflow
BATCH, LENGTH, ITEMS, WIDTH = 3, 7, 11, 5


@pytest.fixture
def numbers():
    random = np.random.default_rng(1)
    states = random.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)
    table = random.normal(size=(ITEMS, WIDTH)).astype(np.float32)
    targets = random.integers(0, ITEMS, (BATCH, LENGTH)).astype(np.int32)
    weight = random.integers(0, 2, (BATCH, LENGTH)).astype(np.float32)
    return states, table, targets, weight


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def gradients(function, *arrays):
    import tensorflow as tf

    tensors = [tf.constant(one) for one in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return float(value), [np.asarray(one) for one in tape.gradient(value, tensors)]


@pytest.mark.parametrize("chunk", [None, 1, 3, 7])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_full_cross_entropy(numbers, smoothing, chunk):
    states, table, targets, weight = numbers
    wanted = (1 - smoothing) * np.eye(ITEMS)[targets] + smoothing / ITEMS
    expected = -(weight[..., None] * wanted * log_softmax(states @ table.T)).sum()

    def ours(states, table):
        return 2 * losses.full_cross_entropy(states, table, targets, weight, smoothing=smoothing, chunk=chunk)

    def plain(states, table):
        log = ops.log_softmax(ops.matmul(states, ops.transpose(table)))
        return -2 * ops.sum(log * (wanted * weight[..., None]).astype(np.float32))

    value, found = gradients(ours, states, table)
    assert value == pytest.approx(2 * expected, rel=1e-5)
    for one, other in zip(found, gradients(plain, states, table)[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_several_targets_share_a_position(numbers):
    states, table, _, weight = numbers
    targets = np.full((BATCH, LENGTH, 3), -1, np.int32)
    targets[..., 0] = 4
    targets[0, :, 1] = 7
    wanted = np.zeros((BATCH, LENGTH, ITEMS))
    wanted[..., 4] = 1
    wanted[0, :, [4, 7]] = 0.5
    expected = -(weight[..., None] * wanted * log_softmax(states @ table.T)).sum()
    found = losses.full_cross_entropy(states, table, targets, weight, chunk=2)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_sampled_softmax_keeps_the_positive_corrects_and_masks_accidental_hits(numbers):
    states, table, targets, weight = numbers
    negatives = np.array([2, 5, 2, 9], np.int32)
    log_expected = np.log(np.linspace(0.1, 0.9, ITEMS)).astype(np.float32)
    expected = 0.0
    for row, place in np.ndindex(BATCH, LENGTH):
        scores = table @ states[row, place] - log_expected
        target = targets[row, place]
        others = [scores[one] for one in negatives if one != target]
        expected += weight[row, place] * (np.log(np.exp([scores[target], *others]).sum()) - scores[target])
    found = losses.sampled_softmax(
        states, table[targets], targets, weight, table[negatives], negatives,
        log_expected=log_expected[negatives], log_expected_target=log_expected[targets],
    )  # fmt: skip
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_all_items_as_negatives_give_the_full_loss(numbers):
    states, table, targets, weight = numbers
    negatives = np.arange(ITEMS, dtype=np.int32)
    zero = np.zeros(ITEMS, np.float32)
    sampled = losses.sampled_softmax(
        states, table[targets], targets, weight, table, negatives, log_expected=zero, log_expected_target=zero[targets]
    )
    assert float(sampled) == pytest.approx(float(losses.full_cross_entropy(states, table, targets, weight)), rel=1e-5)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_generalized_bce(numbers, calibration):
    states, table, targets, weight = numbers
    negatives = np.array([2, 5, 9], np.int32)
    rate = 3 / (ITEMS - 1)
    power = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    assert power == pytest.approx({0.0: 1.0, 0.75: 0.25 + 0.75 * rate, 1.0: rate}[calibration])
    expected = 0.0
    for row, place in np.ndindex(BATCH, LENGTH):
        probability = 1 / (1 + np.exp(-(table @ states[row, place])))
        target = targets[row, place]
        others = sum(np.log(1 - probability[one]) for one in negatives if one != target)
        expected -= weight[row, place] * (power * np.log(probability[target]) + others) / 4
    found = losses.generalized_bce(
        states, table[targets], targets, weight, table[negatives], negatives,
        number=3, items=ITEMS, calibration=calibration,
    )  # fmt: skip
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_target_that_all_others_beat_is_learned_from(numbers):
    """Scores of a thousand: a loss that is cut off there has no gradient where it is needed most."""
    states, table, targets, weight = numbers
    negatives, zero = np.arange(ITEMS, dtype=np.int32), np.zeros(ITEMS, np.float32)
    far = 1000 * states

    def sampled(far, table):
        return losses.sampled_softmax(
            far, ops.take(table, targets, axis=0), targets, weight, table, negatives,
            log_expected=zero, log_expected_target=zero[targets],
        )  # fmt: skip

    def full(far, table):
        return losses.full_cross_entropy(far, table, targets, weight)

    value, (found, _) = gradients(sampled, far, table)
    expected_value, (expected, _) = gradients(full, far, table)
    assert value == pytest.approx(expected_value, rel=1e-4)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    wrong = (weight > 0) & ((far @ table.T).argmax(axis=-1) != targets)
    assert wrong.sum() > 3
    assert (np.abs(found).max(axis=-1)[wrong] > 0.1).all()


def test_negatives_follow_from_seed_and_step_and_from_the_counts():
    counts = np.array([1, 0, 9, 90])

    def draw(seed, step, power=0.5):
        return Negatives(counts, 4000, power, seed).draw(step)

    np.testing.assert_array_equal(draw(3, 5), draw(3, 5))
    assert (draw(3, 5) != draw(4, 5)).any(), "another seed"
    assert (draw(3, 5) != draw(3, 6)).any(), "another step"
    share = np.bincount(draw(3, 5), minlength=4) / 4000
    assert share == pytest.approx(np.sqrt([1, 1, 9, 90]) / np.sqrt([1, 1, 9, 90]).sum(), abs=0.03)


def test_the_shared_optimizer_clips_gradients_together():
    loop = LoopParams(epochs=1, batch_size=8, learning_rate=0.01, max_train_rows=8)
    optimizer = averaged_adamw(loop, 100, 0.0)
    assert (optimizer.global_clipnorm, optimizer.clipnorm) == (1.0, None)
