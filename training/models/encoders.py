"""The deep architectures: what maps event vectors to event vectors."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from training.models.deep import DeepModel
from training.rows import Inputs


class Cnn(DeepModel):
    """Residual blocks of causal convolutions whose dilation doubles per block."""

    name = "cnn"

    def encode(self, events: Any, valid: Any) -> Any:
        """Apply convolutions of width 3 and dilation 1, 2, 4…; padding is reset to zero before each."""
        size = self.size
        weight = ops.expand_dims(ops.cast(valid, events.dtype), -1)
        for block in range(size.blocks):
            normal = layers.LayerNormalization()(events) * weight
            step = layers.Conv1D(size.width, 3, padding="causal", dilation_rate=2**block, activation="gelu")(normal)
            events = events + self.dropout(step)
        return events


class Lstm(DeepModel):
    """Stacked LSTM layers. The mask skips the padding on the left, so the state starts at the first event."""

    name = "lstm"

    def encode(self, events: Any, valid: Any) -> Any:
        """Apply one LSTM layer per block."""
        size = self.size
        for _ in range(size.blocks):
            events = layers.LSTM(size.width, return_sequences=True)(events, mask=valid)
            events = self.dropout(events)
        return events


class Transformer(DeepModel):
    """Blocks of causal self-attention and a feed-forward layer, each after a layer normalization."""

    name = "transformer"

    def encode(self, events: Any, valid: Any) -> Any:
        """Let each event attend to the valid events up to and including itself."""
        size = self.size
        keys = ops.expand_dims(valid, 1)  # (batch, 1, length)
        for _ in range(size.blocks):
            normal = layers.LayerNormalization()(events)
            attended = layers.MultiHeadAttention(
                size.heads, size.width // size.heads, dropout=size.dropout, seed=next(self._dropouts)
            )(normal, normal, attention_mask=keys, use_causal_mask=True)
            events = events + attended
            wide = layers.Dense(2 * size.width, activation="gelu")(layers.LayerNormalization()(events))
            events = events + layers.Dense(size.width)(wide)
        return events

    def attention(self, rows: Inputs) -> NDArray[np.float32]:
        """Return how much each event of each row attends to each other, (rows, blocks, heads, length, length).

        Rows and columns are the last `length` events, padded on the left; the weights of an event sum to 1.
        """
        blocks = [one for one in self.network.layers if isinstance(one, layers.MultiHeadAttention)]
        given = self.inputs(rows)
        normals = keras.Model(self.network.inputs, [block.input[0] for block in blocks])(given)
        keys = ops.expand_dims(ops.convert_to_tensor(given["name"] > 0), 1)
        weights = [
            block(normal, normal, attention_mask=keys, use_causal_mask=True, return_attention_scores=True)[1]
            for block, normal in zip(blocks, normals if len(blocks) > 1 else [normals], strict=True)
        ]
        return np.stack([ops.convert_to_numpy(one) for one in weights], axis=1)
