"""Layers shared by all deep models: item and event embeddings and the next-item head. Keras 3 API only."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from events.contract import EVENT_NAMES
from features.catalogue import Catalogue

_CONTENT = ("category_1_code", "category_2_code", "brand_code", "price_band")
_EPSILON = 1e-9


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

    def matrix(self) -> Any:
        """Return the embeddings of the whole catalogue, (items, width)."""
        return self.call(ops.arange(self.items))


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


class NextItemHead(layers.Layer):
    """Predicts the next item as a mixture of exploring the catalogue and repeating an item of the history.

    After RepeatNet (Ren et al., AAAI 2019, eq. 1): P(i) = g * P_explore(i) + (1 - g) * P_repeat(i). P_explore is a
    softmax of (state . item embedding + bias), with the bias initialized to log popularity. P_repeat assigns a learned
    weight to each event of the history. Before training, the ranking equals that of personal frequency.
    """

    def __init__(self, items: ItemEmbedding, log_popularity: Any, history: int, negatives: int, **more: Any) -> None:
        super().__init__(**more)
        self.items, self.negatives = items, negatives
        self._log_popularity = log_popularity
        self.bias = self.add_weight(shape=(items.items,), initializer="zeros", name="bias")
        self.bias.assign(log_popularity)
        self.recency = self.add_weight(shape=(history,), initializer="zeros", name="recency")
        self.state = layers.Dense(items.width, name="state")
        self.gate = layers.Dense(1, activation="sigmoid", kernel_initializer="zeros", name="gate")
        self.ask = layers.Dense(items.width, kernel_initializer="zeros", name="ask")
        self.random = keras.random.SeedGenerator(0)
        self.cumulative = np.cumsum(np.exp(log_popularity.astype("float64"))).astype("float32")

    def _parts(self, summary: Any, item: Any) -> tuple[Any, Any, Any]:
        """Return the state, (batch, width), the gate, (batch, 1), and the weight of each past event, (batch, n)."""
        scores = self.recency + ops.einsum("bd,bnd->bn", self.ask(summary), self.items(item))
        weights = ops.exp(ops.clip(scores, -20.0, 20.0)) * ops.cast(item > 1, "float32")
        return (
            self.state(summary),
            self.gate(summary),
            weights / (ops.sum(weights, axis=-1, keepdims=True) + _EPSILON),
        )

    def call(self, summary: Any, item: Any) -> Any:
        """Return the probability of every item, (batch, items).

        Args:
            summary: Encoded history and tabular features, (batch, d).
            item: Catalogue indexes of the history, 0 for padding, (batch, n).
        """
        state, gate, weights = self._parts(summary, item)
        explore = ops.softmax(ops.matmul(state, ops.transpose(self.items.matrix())) + self.bias)
        rows = ops.broadcast_to(ops.expand_dims(ops.arange(ops.shape(item)[0]), 1), ops.shape(item))
        index = ops.stack([ops.reshape(rows, (-1,)), ops.reshape(item, (-1,))], axis=1)
        # scatter adds the values of repeated indexes: an item bought three times gets the sum of its three weights
        return gate * explore + ops.scatter(index, ops.reshape((1 - gate) * weights, (-1,)), ops.shape(explore))

    def loss(self, summary: Any, item: Any, targets: Any, *, sampled: bool) -> Any:
        """Return the mean -log P over each row's targets, (batch,).

        Args:
            summary: As in `call`.
            item: As in `call`.
            targets: Catalogue indexes, 0 for padding, (batch, k).
            sampled: Normalize over shared negatives instead of the whole catalogue. They are drawn by popularity and
                corrected for their expected count (Bengio & Senecal, 2008).
        """
        state, gate, weights = self._parts(summary, item)
        if sampled:
            draws = keras.random.uniform((self.negatives,), seed=self.random) * float(self.cumulative[-1])
            negatives = ops.minimum(
                ops.searchsorted(ops.convert_to_tensor(self.cumulative), draws), self.items.items - 1
            )
            expected = ops.take(ops.convert_to_tensor(self._log_popularity), negatives) + float(np.log(self.negatives))
            logits = ops.matmul(state, ops.transpose(self.items(negatives))) + ops.take(self.bias, negatives) - expected
        else:
            logits = ops.matmul(state, ops.transpose(self.items.matrix())) + self.bias
        total = ops.logsumexp(logits, axis=-1, keepdims=True)  # (batch, 1)
        hit = ops.einsum("bd,bkd->bk", state, self.items(targets)) + ops.take(self.bias, targets)
        # (batch, k, n): occurrences of each target in the history; avoids a scatter over the catalogue in training.
        same = ops.cast(ops.expand_dims(targets, 2) == ops.expand_dims(item, 1), "float32")
        repeat = ops.einsum("bkn,bn->bk", same, weights)
        probability = gate * ops.exp(ops.minimum(hit - total, 0.0)) + (1 - gate) * repeat
        mask = ops.cast(targets > 0, "float32")
        return -ops.sum(ops.log(probability + _EPSILON) * mask, axis=-1) / ops.maximum(ops.sum(mask, axis=-1), 1.0)
