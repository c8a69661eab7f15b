"""A causal convolutional network over event sequences, with growing dilation (after NextItNet, Yuan et al. 2019)."""

from typing import Any

from keras import layers, ops

from training.models.deep import DeepModel


class Cnn(DeepModel):
    """Residual blocks of causal convolutions whose dilation doubles per block."""

    name = "cnn"

    def encode(self, events: Any, valid: Any) -> Any:
        """Apply convolutions of width 3 and dilation 1, 2, 4…; padding is reset to zero before each."""
        size = self.recipe.network
        weight = ops.expand_dims(ops.cast(valid, events.dtype), -1)
        for block in range(size.blocks):
            normal = layers.LayerNormalization()(events) * weight
            step = layers.Conv1D(size.width, 3, padding="causal", dilation_rate=2**block, activation="gelu")(normal)
            events = events + layers.Dropout(size.dropout, seed=self.recipe.seed)(step)
        return events
