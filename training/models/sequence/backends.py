"""Operations whose fast form depends on Keras's backend; elsewhere, only Keras's own API is used."""

from typing import Any

import keras
from keras import ops


def softmax_chunk() -> int | None:
    """Return how many positions of each row the full softmax takes at once; None for all.

    TensorFlow's operations write what they compute to memory, so a chunk's logits should fit the cache: ten positions
    of 32 rows were the fastest on two cores. XLA fuses the operations itself.
    """
    return 10 if keras.backend.backend() == "tensorflow" else None


def table_lookup(table: Any, index: Any) -> Any:
    """Return `table[index]` for a short table, with a gradient that many equal indexes do not slow down.

    Args:
        table: (buckets,).
        index: int32, any shape.
    """
    if keras.backend.backend() != "jax":
        return ops.take(table, index)
    buckets = int(table.shape[0])

    # A GPU adds equal indexes one after the other. XLA fuses this comparison with its sum, so nothing is materialized.
    @ops.custom_gradient
    def lookup(table: Any) -> tuple[Any, Any]:
        def backward(*args: Any, upstream: Any = None) -> Any:
            given = ops.reshape(args[0] if upstream is None else upstream, (-1, 1))
            same = ops.reshape(index, (-1, 1)) == ops.arange(buckets, dtype="int32")
            return ops.sum(ops.where(same, given, ops.zeros_like(given)), axis=0)

        return ops.take(table, index), backward

    return lookup(table)


def table_rows(table: Any, index: Any) -> Any:
    """Return `table[index]`, (..., width), with a dense gradient.

    TensorFlow's own is a list of rows in which an item can occur twice, and the norm of that list, by which gradients
    are clipped, is not the norm of the gradient.

    Args:
        table: (rows, width).
        index: int32, any shape.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.take(table, index, axis=0)
    rows, width = table.shape

    @ops.custom_gradient
    def lookup(table: Any) -> tuple[Any, Any]:
        def backward(*args: Any, upstream: Any = None) -> Any:
            given = ops.reshape(args[0] if upstream is None else upstream, (-1, width))
            return ops.segment_sum(given, ops.reshape(index, (-1,)), num_segments=rows)

        return ops.take(table, index, axis=0), backward

    return lookup(ops.reshape(table, (rows, width)))  # a tensor: custom gradients must not see TensorFlow's variables
