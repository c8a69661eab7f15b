"""GRU4Rec and an LSTM (Hidasi et al., 2016), whose state is reset at each segment of a packed row."""

from typing import Any, ClassVar

import keras
from keras import layers, ops

from training.models.sequence.encoder import Context, Encoder


class FreshStart(layers.Layer):
    """A cell whose state is reset to zero before each input whose last number is 1."""

    def __init__(self, cell: layers.Layer, **more: Any) -> None:
        super().__init__(**more)
        self.cell = cell
        self.state_size, self.output_size = cell.state_size, cell.units

    def build(self, shape: Any) -> None:
        """Build the cell for inputs without the last number."""
        self.cell.build((*shape[:-1], shape[-1] - 1))

    def call(self, inputs: Any, states: Any, training: bool | None = None) -> Any:
        """Return the output and the new states."""
        keep = 1 - inputs[:, -1:]
        states = [state * keep for state in (states if isinstance(states, (list, tuple)) else [states])]
        return self.cell(inputs[:, :-1], states, training=training)

    def get_initial_state(self, batch_size: int | None = None) -> Any:
        """Return the initial state of the cell."""
        return self.cell.get_initial_state(batch_size)


class _Recurrent(Encoder):
    kind: ClassVar[type[layers.Layer]]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.first_drop = self.dropout()
        self.blocks = [[self._layer(), self.dropout()] for _ in range(self.size.blocks)]
        self.last_norm = self.norm()

    def _layer(self) -> layers.Layer:
        inner = self.kind(
            self.size.width,
            kernel_initializer=self.glorot(),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(self._seeds)),
            dtype=self.dtype_policy,
        )
        cell = FreshStart(inner, dtype=self.dtype_policy)
        return layers.RNN(cell, return_sequences=True, dtype=self.dtype_policy)

    def call(self, x: Any, context: Context, training: bool | None = None) -> Any:
        """See `Encoder`."""
        fresh = ops.expand_dims(ops.cast(context["position"] == 0, x.dtype), 2)
        x = self.first_drop(x, training=training)
        for recurrent, drop in self.blocks:
            x = x + drop(recurrent(ops.concatenate([x, fresh], axis=-1), training=training), training=training)
        return self.last_norm(x)


class Gru(_Recurrent):
    """Residual GRU layers."""

    name_ = "gru"
    kind = layers.GRUCell


class Lstm(_Recurrent):
    """Residual LSTM layers."""

    name_ = "lstm"
    kind = layers.LSTMCell
