"""HSTU: gated attention with pointwise SiLU weights (Zhai et al., 2024, section 3, equations 1 to 3).

The time of the prediction enters through the attention's bias, as in the authors' code: the bias of an event depends on
the time from that event to the prediction. Without time awareness, the prediction is at the time of the last event.
"""

from typing import Any

from keras import layers, ops

from training.models.sequence.backends import table_lookup
from training.models.sequence.encoder import Context, Encoder, join_heads, split_heads, visible

_GAP_STEP = 0.301  # width of a bucket of log seconds, as in the authors' code
_GAPS = 80  # buckets; the last one begins at exp(79 * .301), some 700 years


def gap_buckets(time: Any, asked: Any) -> Any:
    """Return the bucket of the time from each event (columns) to each prediction (rows), int32 (batch, n, n)."""
    gap = ops.maximum(ops.expand_dims(asked, 2) - ops.expand_dims(time, 1), 0)
    bucket = ops.floor(ops.log1p(ops.cast(gap, "float32")) / _GAP_STEP)
    return ops.cast(ops.minimum(bucket, _GAPS - 1), "int32")


class Bias(layers.Layer):
    """A bias per distance in positions, and one per bucket of the time difference, shared by all heads."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        self.by_distance = self.add_weight(
            shape=(encoder.size.length,), initializer=encoder.small(), name="by_distance"
        )
        self.by_gap = self.add_weight(shape=(_GAPS,), initializer=encoder.small(), name="by_gap")

    def call(self, buckets: Any) -> Any:
        """Return (batch, 1, n, n); entries above the diagonal are meaningless, and the caller masks them."""
        place = ops.arange(buckets.shape[1])
        distance = ops.maximum(ops.expand_dims(place, 1) - ops.expand_dims(place, 0), 0)
        bias = ops.take(self.by_distance, distance) + table_lookup(self.by_gap, buckets)
        return ops.cast(ops.expand_dims(bias, 1), self.compute_dtype)


class HSTUBlock(layers.Layer):
    """norm(A v) * u after one projection, where A = SiLU(q k + bias) / (events seen)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        self.heads, width = encoder.size.heads, encoder.size.width
        self.norm, self.inner_norm = encoder.norm(), encoder.norm()
        self.project = encoder.dense(4 * width, use_bias=False, activation="silu")
        self.bias = Bias(encoder)
        self.combine = encoder.dense(width)
        self.drop = encoder.dropout()

    def call(self, x: Any, buckets: Any, share: Any, training: bool | None = None) -> Any:
        """Return (batch, length, width); `share` is 1 / (events seen) where visible, else 0, (batch, 1, n, n)."""
        u, v, q, k = ops.split(self.project(self.norm(x)), 4, axis=-1)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) + self.bias(buckets)
        mixed = join_heads(ops.matmul(ops.silu(scores) * share, v))
        return x + self.combine(self.drop(self.inner_norm(mixed) * u, training=training))


class HSTU(Encoder):
    """Stacked HSTU blocks. Time and order enter only through the biases, so no position is added to the input."""

    name_ = "hstu"
    reads_time = True

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.first_drop = self.dropout()
        self.blocks = [HSTUBlock(self) for _ in range(self.size.blocks)]
        self.last_norm = self.norm()

    def call(self, x: Any, context: Context, training: bool | None = None) -> Any:
        """See `Encoder`."""
        seen = ops.cast(ops.expand_dims(context["position"], 2) + 1, x.dtype)  # (batch, n, 1)
        share = ops.expand_dims(ops.cast(visible(context["segment"]), x.dtype) / seen, 1)
        buckets = gap_buckets(context["time"], context["asked"])
        x = self.first_drop(x, training=training)
        for block in self.blocks:
            x = block(x, buckets, share, training=training)
        return self.last_norm(x)
