"""RowAdamW changes the rows that have a gradient, and its averages are those of the weights after every step."""

import keras
import numpy as np
import pytest

from training.models.sequence.backends import clip_by_global_norm
from training.models.sequence.optimizer import RowAdamW

pytestmark = pytest.mark.tensorflow

RATE, BETA_1, BETA_2, EPSILON, MOMENTUM = 0.1, 0.9, 0.98, 1e-7, 0.8
READ = [[0, 3, 3], [1], [0, 4], [2, 2, 1], [3]]  # the rows that each step reads; 5 is read by none


def slices(tf, random, rows):
    return tf.IndexedSlices(tf.constant(random.normal(size=(len(rows), 2)), tf.float32), tf.constant(rows), (6, 2))


def test_steps_and_averages_are_those_of_a_naive_program():
    import tensorflow as tf

    random = np.random.default_rng(0)
    start = random.normal(size=(6, 2)).astype(np.float32)
    table = keras.Variable(start, name="table")
    optimizer = RowAdamW(
        RATE, tables=[table], beta_2=BETA_2, weight_decay=0.0, global_clipnorm=1.0, use_ema=True, ema_momentum=MOMENTUM
    )
    optimizer.build([table])
    weights, moment, velocity = start.astype(np.float64), np.zeros((6, 2)), np.zeros((6, 2))
    average = None
    for step, rows in enumerate(READ, 1):
        given = slices(tf, random, rows)
        optimizer.apply([given], [table])
        gradient = np.zeros((6, 2))
        np.add.at(gradient, rows, given.values.numpy())
        gradient /= max(np.linalg.norm(gradient), 1)
        for row in set(rows):
            moment[row] = BETA_1 * moment[row] + (1 - BETA_1) * gradient[row]
            velocity[row] = BETA_2 * velocity[row] + (1 - BETA_2) * gradient[row] ** 2
            first, second = moment[row] / (1 - BETA_1**step), velocity[row] / (1 - BETA_2**step)
            weights[row] = weights[row] - RATE * first / (np.sqrt(second) + EPSILON / np.sqrt(1 - BETA_2**step))
        average = weights.copy() if average is None else MOMENTUM * average + (1 - MOMENTUM) * weights
        np.testing.assert_allclose(table.numpy(), weights, atol=1e-5)
        np.testing.assert_allclose(optimizer.averages()[0], average, atol=1e-5)
    np.testing.assert_array_equal(table.numpy()[5], start[5])
    assert np.abs(table.numpy()[:5] - start[:5]).min() > 1e-3


def test_the_norm_is_that_of_the_gradient_and_not_of_its_pieces():
    import tensorflow as tf

    sparse = tf.IndexedSlices(tf.constant([[3.0], [0.0], [-1.0]]), tf.constant([1, 0, 1]), (2, 1))
    clipped = clip_by_global_norm([sparse, tf.constant([2.0, 1.0])], 1.5)  # rows 0 and 2, norm 3
    np.testing.assert_allclose(tf.convert_to_tensor(clipped[0]), [[0], [1]], atol=1e-6)
    np.testing.assert_allclose(clipped[1], [1, 0.5], atol=1e-6)
