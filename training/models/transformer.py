"""The main model: a causal, pre-norm transformer over event sequences (SASRec, Kang & McAuley 2018)."""

from typing import Any

from keras import layers, ops

from training.models.deep import DeepModel


class Transformer(DeepModel):
    """Blocks of causal self-attention and a feed-forward layer, each after a layer normalization."""

    name = "transformer"

    def encode(self, events: Any, valid: Any) -> Any:
        """Let each event attend to the valid events up to and including itself."""
        size = self.recipe.network
        keys = ops.expand_dims(valid, 1)  # (batch, 1, length)
        for _ in range(size.blocks):
            normal = layers.LayerNormalization()(events)
            attended = layers.MultiHeadAttention(
                size.heads, size.width // size.heads, dropout=size.dropout, seed=self.recipe.seed
            )(normal, normal, attention_mask=keys, use_causal_mask=True)
            events = events + attended
            wide = layers.Dense(2 * size.width, activation="gelu")(layers.LayerNormalization()(events))
            events = events + layers.Dense(size.width)(wide)
        return events
