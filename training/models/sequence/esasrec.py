"""eSASRec: SASRec with LiGR's gated residuals and SwiGLU (Tikhonovich et al., 2025; Borisyuk et al., 2024)."""

from typing import Any

from keras import layers, ops

from training.models.sequence.encoder import Context, Encoder, Positions
from training.models.sequence.sasrec import Attention, additive_mask


class SwiGLU(layers.Layer):
    """W3 (SiLU(W1 x) * W2 x), with the inner width of a plain feed-forward layer of equal cost (Shazeer, 2020)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        inner = encoder.size.width * 8 // 3
        self.wide = encoder.dense(2 * inner, use_bias=False)
        self.narrow = encoder.dense(encoder.size.width, use_bias=False)
        self.drop = encoder.dropout()

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return (batch, length, width)."""
        gate, value = ops.split(self.wide(x), 2, axis=-1)
        return self.narrow(self.drop(ops.silu(gate) * value, training=training))


class ESASRec(Encoder):
    """x + F(norm(x)) * sigmoid(W x) for F = attention, then F = SwiGLU, per block; learned positions."""

    name_ = "esasrec"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        width = self.size.width
        self.positions = Positions(self)
        self.first_drop = self.dropout()
        self.blocks = [
            [self._part(Attention(self), width), self._part(SwiGLU(self), width)] for _ in range(self.size.blocks)
        ]
        self.last_norm = self.norm()

    def _part(self, inner: layers.Layer, width: int) -> list[layers.Layer]:
        return [self.norm(), inner, self.dropout(), self.dense(width, activation="sigmoid")]

    def call(self, x: Any, context: Context, training: bool | None = None) -> Any:
        """See `Encoder`."""
        mask = additive_mask(context["segment"], x.dtype)
        x = self.first_drop(self.positions(x, context["position"]), training=training)
        for (norm, attention, drop, gate), (norm_2, forward, drop_2, gate_2) in self.blocks:
            x = x + drop(attention(norm(x), mask, training=training), training=training) * gate(x)
            x = x + drop_2(forward(norm_2(x), training=training), training=training) * gate_2(x)
        return self.last_norm(x)
