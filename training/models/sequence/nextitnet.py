"""NextItNet: residual blocks of dilated causal convolutions (Yuan et al., 2019, section 3.3)."""

from typing import Any

from keras import layers, ops

from training.models.sequence.encoder import Context, Encoder

_TAPS = 3


def earlier(x: Any, segment: Any, steps: int) -> Any:
    """Return the vector `steps` positions earlier, zero if that is in another segment, (batch, length, width)."""
    length = x.shape[1]
    moved = ops.pad(x, ((0, 0), (steps, 0), (0, 0)))[:, :length]
    same = ops.pad(segment, ((0, 0), (steps, 0)))[:, :length] == segment
    return ops.where(ops.expand_dims(same, 2), moved, ops.zeros_like(moved))


class CausalConvolution(layers.Layer):
    """A convolution over a position and two earlier ones, `dilation` apart, within the same segment."""

    def __init__(self, encoder: Encoder, dilation: int) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        self.dilation = dilation
        self.mix = encoder.dense(encoder.size.width)

    def call(self, x: Any, segment: Any) -> Any:
        """Return (batch, length, width)."""
        taps = [x, *(earlier(x, segment, self.dilation * k) for k in range(1, _TAPS))]
        return self.mix(ops.concatenate(taps, axis=-1))


class NextItNet(Encoder):
    """Each block has two convolutions, of dilation d and 2d, with d = 1, 4, 16, …; four blocks see 200 events."""

    name_ = "nextitnet"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.first_drop = self.dropout()
        self.blocks = [self._block(4**k) for k in range(self.size.blocks)]
        self.last_norm = self.norm()

    def _block(self, dilation: int) -> list[layers.Layer]:
        first, second = CausalConvolution(self, dilation), CausalConvolution(self, 2 * dilation)
        return [self.norm(), first, self.norm(), second, self.dropout()]

    def call(self, x: Any, context: Context, training: bool | None = None) -> Any:
        """See `Encoder`."""
        segment = context["segment"]
        x = self.first_drop(x, training=training)
        for norm, convolution, norm_2, convolution_2, drop in self.blocks:
            inner = convolution(ops.relu(norm(x)), segment)
            x = x + drop(convolution_2(ops.relu(norm_2(inner)), segment), training=training)
        return self.last_norm(x)
