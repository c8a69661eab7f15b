"""Losses over a catalogue of items, in Keras 3 operations.

Each returns the sum over positions of `weight` times the position's loss. `states` are an encoder's outputs and `table`
has one row per item, so that the logits are `states @ table.T`; a temperature divides the states beforehand. Padding
has no row: `targets` and `negatives` are rows of `table`, that is item numbers minus one.
"""

import math
from typing import Any

from keras import ops

_MASKED = -1e9  # a logit that no softmax and no sigmoid sees


def full_cross_entropy(
    states: Any, table: Any, targets: Any, weight: Any, *, smoothing: float = 0.0, chunk: int | None = None
) -> Any:
    """Return the weighted sum of the cross-entropies of a softmax over all items.

    Loss and gradients are computed together, `chunk` positions of each row at a time: the logits of a chunk stay in the
    processor's cache, and none are kept for a backward pass. With several targets per position, the target
    distribution is uniform over them (listwise). Smoothing s makes it (1 - s) target + s / items (Szegedy et al., 2016,
    section 7).

    Args:
        states: (batch, length, width).
        table: (items, width).
        targets: (batch, length), or (batch, length, k) with -1 where a position has fewer than k; any valid row where
            `weight` is 0.
        weight: (batch, length).
        smoothing: Share of the target distribution that is spread over all items.
        chunk: Positions of each row per step; None for all at once.
    """
    length, items, width = states.shape[1], table.shape[0], table.shape[1]
    step = chunk or length
    if len(targets.shape) == 2:
        targets = ops.expand_dims(targets, 2)

    @ops.custom_gradient
    def loss_and_gradients(states: Any, table: Any, weight: Any) -> tuple[Any, Any]:
        columns = ops.transpose(table)
        mean_row = ops.mean(table, axis=0, keepdims=True)  # (1, width)
        loss, table_gradient, down = 0.0, 0.0, []
        for begin in range(0, length, step):
            part = slice(begin, begin + step)
            x = ops.reshape(states[:, part], (-1, width))  # (n, width)
            w = ops.reshape(weight[:, part], (-1, 1))
            t = ops.reshape(targets[:, part], (-1, targets.shape[2]))  # (n, k)
            present = ops.cast(t >= 0, x.dtype)
            share = (1 - smoothing) * present / ops.maximum(ops.sum(present, axis=1, keepdims=True), 1)
            wanted = ops.sum(ops.take(table, ops.maximum(t, 0), axis=0) * ops.expand_dims(share, 2), axis=1)
            wanted = wanted + smoothing * mean_row  # (n, width): the target distribution's mean row
            logits = ops.matmul(x, columns)  # (n, items)
            top = ops.max(logits, axis=1, keepdims=True)
            raised = ops.exp(logits - top)
            total = ops.sum(raised, axis=1, keepdims=True)
            # d loss / d logit = w (probability - target). Probabilities are normalized on the side of the states, which
            # have fewer columns than the logits.
            scaled = w / total
            down.append(ops.reshape(ops.matmul(raised, table) * scaled - w * wanted, ops.shape(states[:, part])))
            pull = ops.expand_dims(w * share, 2) * ops.expand_dims(x, 1)  # (n, k, width)
            table_gradient += ops.matmul(ops.transpose(raised), x * scaled)
            table_gradient -= ops.segment_sum(
                ops.reshape(pull, (-1, width)), ops.reshape(ops.maximum(t, 0), (-1,)), num_segments=items
            )
            if smoothing:
                table_gradient -= smoothing / items * ops.sum(w * x, axis=0, keepdims=True)
            loss += ops.sum(w * (top + ops.log(total) - ops.sum(x * wanted, axis=1, keepdims=True)))

        def backward(*args: Any, upstream: Any = None) -> Any:
            scale = args[0] if upstream is None else upstream
            return ops.concatenate(down, axis=1) * scale, table_gradient * scale, ops.zeros_like(weight)

        return loss, backward

    return loss_and_gradients(states, table, weight)


def sampled_softmax(
    states: Any,
    positive: Any,
    targets: Any,
    weight: Any,
    sampled: Any,
    negatives: Any,
    *,
    log_expected: Any,
    log_expected_target: Any,
) -> Any:
    """Return the weighted sum of the cross-entropies of a softmax over the target and shared negatives.

    The positive is in the denominator. Each logit is reduced by the log of how often its item is expected among the
    negatives (logQ correction; Bengio & Senecal, 2008; Yi et al., 2019, equation 3). A negative that is the position's
    own target is left out.

    Args:
        states: (..., width).
        positive: Rows of the targets, (..., width).
        targets: (...).
        weight: (...).
        sampled: Rows of the negatives, (n, width).
        negatives: (n,).
        log_expected: Log of the expected count of each negative, (n,).
        log_expected_target: The same of each target, (...).
    """
    hit = ops.sum(states * positive, axis=-1, keepdims=True) - ops.expand_dims(log_expected_target, -1)
    logits = ops.matmul(states, ops.transpose(sampled)) - log_expected
    logits = ops.where(ops.expand_dims(targets, -1) == negatives, _MASKED, logits)
    total = ops.logsumexp(ops.concatenate([hit, logits], axis=-1), axis=-1)
    return ops.sum(weight * (total - ops.squeeze(hit, -1)))


def generalized_bce(
    states: Any,
    positive: Any,
    targets: Any,
    weight: Any,
    sampled: Any,
    negatives: Any,
    *,
    number: int,
    items: int,
    calibration: float,
) -> Any:
    """Return the weighted sum of gBCE losses with uniform shared negatives (Petrov & Macdonald, 2023, equations 9, 10).

    -(b log sigmoid(positive) + sum of log(1 - sigmoid(negative))) / (n + 1), where b = a (t (1 - 1/a) + 1/a) and
    a = n / (items - 1). At t = 1 the probabilities are calibrated; at t = 0 the loss is plain BCE.

    Args:
        states: (..., width).
        positive: Rows of the targets, (..., width).
        targets: (...).
        weight: (...).
        sampled: Rows of the negatives, (n, width).
        negatives: (n,).
        number: n; a compiled step does not know the shape of its inputs.
        items: The size of the catalogue.
        calibration: t, from 0 to 1.
    """
    rate = min(number / max(items - 1, 1), 1.0)
    power = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    hit = ops.sum(states * positive, axis=-1)
    logits = ops.matmul(states, ops.transpose(sampled))
    logits = ops.where(ops.expand_dims(targets, -1) == negatives, _MASKED, logits)
    return ops.sum(weight * (power * ops.softplus(-hit) + ops.sum(ops.softplus(logits), axis=-1))) / (number + 1)


def uniform_log_expected(negatives: int, items: int) -> float:
    """Return the log of an item's expected count among uniform negatives."""
    return math.log(negatives / items)
