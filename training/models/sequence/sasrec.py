"""SASRec: causal self-attention over a user's items (Kang & McAuley, 2018), with the normalization before each part."""

from typing import Any

from keras import layers, ops

from training.models.sequence.encoder import Context, Encoder, Positions, join_heads, split_heads, visible

_HIDDEN = -1e9


class Attention(layers.Layer):
    """Multi-head softmax attention, with one matrix product for queries, keys and values."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        self.heads, width = encoder.size.heads, encoder.size.width
        self.scale = (width // self.heads) ** -0.5
        self.project = encoder.dense(3 * width, use_bias=False)
        self.combine = encoder.dense(width)
        self.drop = encoder.dropout()

    def call(self, x: Any, mask: Any, training: bool | None = None) -> Any:
        """Return (batch, length, width); `mask` is added to the scores, (batch, 1, length, length)."""
        q, k, v = (split_heads(part, self.heads) for part in ops.split(self.project(x), 3, axis=-1))
        scores = ops.matmul(q * self.scale, ops.transpose(k, (0, 1, 3, 2))) + mask
        weights = self.drop(ops.softmax(scores), training=training)
        return self.combine(join_heads(ops.matmul(weights, v)))


class FeedForward(layers.Layer):
    """Two dense layers with a GELU between them; the inner one is `factor` times as wide."""

    def __init__(self, encoder: Encoder, factor: int = 4) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        self.wide = encoder.dense(factor * encoder.size.width, activation="gelu")
        self.narrow = encoder.dense(encoder.size.width)
        self.drop = encoder.dropout()

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return (batch, length, width)."""
        return self.narrow(self.drop(self.wide(x), training=training))


def additive_mask(segment: Any, dtype: Any) -> Any:
    """Return 0 where a position sees another and a large negative number elsewhere, (batch, 1, length, length)."""
    return ops.expand_dims(ops.where(visible(segment), ops.cast(0, dtype), ops.cast(_HIDDEN, dtype)), 1)


class SASRec(Encoder):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), per block; learned positions."""

    name_ = "sasrec"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.positions = Positions(self)
        self.first_drop = self.dropout()
        self.blocks = [self._block() for _ in range(self.size.blocks)]
        self.last_norm = self.norm()

    def _block(self) -> list[layers.Layer]:
        return [self.norm(), Attention(self), self.dropout(), self.norm(), FeedForward(self), self.dropout()]

    def call(self, x: Any, context: Context, training: bool | None = None) -> Any:
        """See `Encoder`."""
        mask = additive_mask(context["segment"], x.dtype)
        x = self.first_drop(self.positions(x, context["position"]), training=training)
        for norm, attention, drop, norm_2, forward, drop_2 in self.blocks:
            x = x + drop(attention(norm(x), mask, training=training), training=training)
            x = x + drop_2(forward(norm_2(x), training=training), training=training)
        return self.last_norm(x)
