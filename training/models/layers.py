"""Layers of the sequence models of purchases: item and event embeddings. Keras 3 API only."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from events.contract import EVENT_NAMES
from features.catalogue import Catalogue

_CONTENT = ("category_1_code", "category_2_code", "brand_code", "price_band")


class ItemEmbedding(layers.Layer):
    """Embeds an item as the sum of its ID and its content, so that an item unseen in training has a useful embedding.

    The content codes of all items are stored as weights, so the artifact needs no other table.
    """

    def __init__(self, catalogue: Catalogue, width: int, **more: Any) -> None:
        super().__init__(**more)
        self.items, self.width = catalogue.size, width
        codes = catalogue.frame.select(_CONTENT).to_numpy().astype("int32")
        self._codes = np.concatenate([np.zeros((2, len(_CONTENT)), "int32"), codes])
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.ids = self.add_weight(shape=(self.items, width), initializer=small, name="ids")
        self.content = [
            self.add_weight(shape=(int(self._codes[:, k].max()) + 1, width), initializer=small, name=name)
            for k, name in enumerate(_CONTENT)
        ]
        self.codes = self.add_weight(
            shape=self._codes.shape, dtype="int32", initializer="zeros", trainable=False, name="codes"
        )
        self.codes.assign(self._codes)

    def call(self, items: Any) -> Any:
        """Return the embeddings, (..., width), of catalogue indexes, (...)."""
        codes = ops.take(self.codes, items, axis=0)
        total = ops.take(self.ids, items, axis=0)
        for k, table in enumerate(self.content):
            total = total + ops.take(table, codes[..., k], axis=0)
        return total


class EventEmbedding(layers.Layer):
    """Embeds each event of a history from its item, name, position, age and the recency of its order."""

    def __init__(self, items: ItemEmbedding, width: int, length: int, **more: Any) -> None:
        super().__init__(**more)
        self.items = items
        self.names = layers.Embedding(len(EVENT_NAMES) + 1, width)
        self.place = layers.Embedding(length, width)
        self.numbers = layers.Dense(width)

    def call(self, item: Any, name: Any, numbers: Any) -> Any:
        """Return the event vectors, (batch, length, width), zero where `name`, the event code, is 0 (padding).

        `numbers` holds log(1 + hours ago) and log(1 + orders ago), (batch, length, 2).
        """
        vectors = self.items(item) + self.names(name) + self.place(ops.arange(item.shape[1])) + self.numbers(numbers)
        return vectors * ops.cast(ops.expand_dims(name > 0, -1), vectors.dtype)
