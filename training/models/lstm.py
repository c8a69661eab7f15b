"""A recurrent network (LSTM) over event sequences, after GRU4Rec (Hidasi et al. 2016)."""

from typing import Any

from keras import layers

from training.models.deep import DeepModel


class Lstm(DeepModel):
    """Stacked LSTM layers. The mask skips the padding on the left, so the state starts at the first event."""

    name = "lstm"

    def encode(self, events: Any, valid: Any) -> Any:
        """Apply one LSTM layer per block."""
        size = self.recipe.network
        for _ in range(size.blocks):
            events = layers.LSTM(size.width, return_sequences=True)(events, mask=valid)
            events = layers.Dropout(size.dropout, seed=self.recipe.seed)(events)
        return events
