"""Operations whose fastest form depends on Keras's backend; all other code uses only Keras's own API."""

from typing import Any

import keras
from keras import ops


def softmax_chunk() -> int | None:
    """Return how many positions of each row the full softmax takes at once; None for all.

    TensorFlow's operations write their results to memory, so a chunk's logits should fit the cache: ten positions of 32
    rows were the fastest on two cores. XLA fuses the operations, so it needs no chunks.
    """
    return 10 if keras.backend.backend() == "tensorflow" else None


def table_lookup(table: Any, index: Any) -> Any:
    """Return `table[index]` for a short table; its gradient stays fast if many indexes are equal.

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


def table_rows(table: Any, index: Any, *, sparse: bool = False) -> Any:
    """Return `table[index]`, (..., width).

    TensorFlow's own gradient is a list of rows in which a row can occur twice. Clipping would use the norm of this
    list, which is not the norm of the gradient.

    Args:
        table: (rows, width).
        index: int32, any shape.
        sparse: Whether to keep that list, with TensorFlow; `clip_by_global_norm` adds up the entries of each row. If
            not, the gradient is dense, which is faster if a step reads most rows of the table.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.take(table, index, axis=0)
    if sparse:
        import tensorflow as tf

        return tf.gather(table.value, index)  # from the variable itself: a tensor would be a copy of the table
    rows, width = table.shape

    @ops.custom_gradient
    def lookup(table: Any) -> tuple[Any, Any]:
        def backward(*args: Any, upstream: Any = None) -> Any:
            given = ops.reshape(args[0] if upstream is None else upstream, (-1, width))
            return ops.segment_sum(given, ops.reshape(index, (-1,)), num_segments=rows)

        return ops.take(table, index, axis=0), backward

    return lookup(ops.reshape(table, (rows, width)))  # a tensor: custom gradients must not see TensorFlow's variables


def _is_sparse(gradient: Any) -> bool:
    return hasattr(gradient, "indices")


def _native(variable: Any) -> Any:
    """Return the TensorFlow variable of a Keras variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _unique_rows(gradient: Any) -> Any:
    """Return a gradient in which each row occurs once."""
    if not _is_sparse(gradient):
        return gradient
    import tensorflow as tf

    rows, place = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def clip_by_global_norm(gradients: list[Any], norm: float) -> list[Any]:
    """Return gradients scaled so that their global norm is at most `norm`; sparse ones stay sparse."""
    unique = [_unique_rows(one) for one in gradients]
    squares = [ops.sum(ops.square(one.values if _is_sparse(one) else one)) for one in unique]
    scale = norm / ops.maximum(ops.sqrt(ops.sum(ops.stack(squares))), norm)
    return [_scaled(one, scale) for one in unique]


def _scaled(gradient: Any, scale: Any) -> Any:
    if not _is_sparse(gradient):
        return gradient * scale
    import tensorflow as tf

    return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)


class TouchedRows:
    """The rows of a table that have a gradient.

    Args:
        gradient: (rows, width), dense, or TensorFlow's list of rows, each at most once.

    Attributes:
        gradient: The gradient of the touched rows, or, if it was dense, of all rows.
    """

    def __init__(self, gradient: Any) -> None:
        self._rows = gradient.indices if _is_sparse(gradient) else None
        self.gradient = gradient if self._rows is None else gradient.values
        self._touched = ops.any(gradient != 0, axis=1, keepdims=True) if self._rows is None else None

    def read(self, variable: Any) -> Any:
        """Return the rows of a variable that belong to `gradient`."""
        if self._rows is None:
            return ops.convert_to_tensor(variable)
        import tensorflow as tf

        return tf.gather(_native(variable), self._rows)

    def write(self, variable: Any, value: Any) -> None:
        """Write `value`, which has the rows of `gradient`, to the touched rows of a variable."""
        if self._rows is None:
            variable.assign(ops.where(self._touched, value, ops.convert_to_tensor(variable)))
            return
        import tensorflow as tf

        _native(variable).scatter_update(tf.IndexedSlices(value, self._rows))


def sum_over_workers(values: list[Any]) -> list[Any]:
    """Return the sums of tensors over the processes that train together; see `workers`.

    JAX's tensors already cover all processes, so there is nothing to add.
    """
    if keras.backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    summed: list[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return summed
