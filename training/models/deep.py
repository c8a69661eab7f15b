"""The base of the sequence models of purchases: inputs, loss, training, compiled prediction, weights.

An architecture implements only `encode`, which maps event vectors to event vectors. Training is seeded and
deterministic: on one machine, the same rows and recipe give the same weights.
"""

import itertools
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from features.catalogue import Catalogue
from training.calibration import focal_probability
from training.loop import Curves, Progress, Reports, require_finite
from training.models.contract import FloatArray, Model, Recipe
from training.models.layers import EventEmbedding, ItemEmbedding
from training.models.scaler import Scaler
from training.models.space import Among, Between
from training.rows import Inputs, RowSet

_WEIGHTS = "model.weights.h5"
_BUCKETS = (1, 32, 512)  # batch sizes for which prediction is compiled; a batch is padded to the next larger one
_HOUR = np.timedelta64(3_600_000_000, "us")
_GAMMA = 2.0  # of the focal loss (Lin et al., ICCV 2017, where it works best)


class DeepModel(Model):
    """A sequence encoder combined with tabular features, which predicts purchases."""

    tasks = frozenset({"purchase"})
    space: ClassVar = {
        "network.length": Among((16, 32, 64)),
        "network.width": Among((32, 64, 96, 128)),
        "network.blocks": Between(1, 3),
        "network.dropout": Between(0.0, 0.5),
        "loop.batch_size": Among((256, 512, 1024)),
        "loop.learning_rate": Between(0.0003, 0.01, log=True),
    }

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        super().__init__(recipe, catalogue)
        self.size, self.loop = recipe.sequence
        self._dropouts = itertools.count(recipe.seed)  # a layer with the seed of another would draw the same masks

    def dropout(self, values: Any) -> Any:
        """Apply dropout with a seed of its own."""
        return layers.Dropout(self.size.dropout, seed=next(self._dropouts))(values)

    @abstractmethod
    def encode(self, events: Any, valid: Any) -> Any:
        """Return the encoded events, (batch, length, width).

        Args:
            events: Event vectors, (batch, length, width), zero for padding on the left.
            valid: False for padding, (batch, length); padding must not influence the vector of a valid event.
        """

    def inputs(self, rows: Inputs) -> dict[str, NDArray[Any]]:
        """Return the input arrays of the network."""
        recent = rows.history.window(self.size.length)
        hours = (rows.now[:, None] - recent.event_time) / _HOUR
        hours = np.where(recent.valid & ~np.isnat(recent.event_time), hours, 0)
        numbers = np.stack([np.log1p(np.maximum(hours, 0)), np.log1p(recent.order_code)], axis=-1)
        return {
            "item": recent.item_index,
            "name": recent.event_code.astype(np.int32),
            "numbers": numbers.astype(np.float32),
            "tabular": self.scaler.apply(rows),
        }

    def build(self) -> None:
        """Create the network."""
        size = self.size
        given = {
            "item": keras.Input((size.length,), dtype="int32", name="item"),
            "name": keras.Input((size.length,), dtype="int32", name="name"),
            "numbers": keras.Input((size.length, 2), name="numbers"),
            "tabular": keras.Input((2 * len(self.scaler.names),), name="tabular"),
        }
        items = ItemEmbedding(self.catalogue, size.width, name="items")
        events = EventEmbedding(items, size.width, size.length, name="events")(
            given["item"], given["name"], given["numbers"]
        )
        valid = ops.greater(given["name"], 0)
        states = layers.LayerNormalization()(self.encode(events, valid))
        weight = ops.expand_dims(ops.cast(valid, states.dtype), -1)  # (batch, length, 1)
        mean = ops.sum(states * weight, axis=1) / ops.maximum(ops.sum(weight, axis=1), 1.0)
        tabular = layers.Dense(2 * size.width, activation="gelu")(given["tabular"])
        summary = layers.Concatenate()([states[:, -1], mean, tabular])
        summary = self.dropout(layers.Dense(2 * size.width, activation="gelu")(summary))
        output = layers.Dense(1, activation="sigmoid", name="purchase")(summary)[:, 0]
        self.network = keras.Model(given, output)

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Build the network, and train it until the validation loss stops improving; keep the best weights.

        Raises:
            ModelError: the loss did not stay finite.
        """
        keras.utils.clear_session()
        keras.utils.set_random_seed(self.recipe.seed)
        self.scaler = Scaler.fit(train.inputs)
        self.build()
        self._learn(train, validation, live)
        self._compile()

    def _learn(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        loop = self.loop
        optimizer = keras.optimizers.get(
            {"class_name": loop.optimizer, "config": {"learning_rate": loop.learning_rate, "global_clipnorm": 1.0}}
        )
        losses = {"binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy(gamma=_GAMMA)}
        loss = losses.get(self.recipe.loss, self.recipe.loss)
        self.network.compile(optimizer=optimizer, loss=loss, metrics=[keras.metrics.AUC(name="auc")], jit_compile=False)
        x = self.inputs(train.inputs)
        order = np.random.default_rng(self.recipe.seed).permutation(len(train))
        self.network.fit(
            {name: values[order] for name, values in x.items()},
            train.labels[order],
            batch_size=loop.batch_size,
            epochs=loop.epochs,
            validation_data=(self.inputs(validation.inputs), validation.labels),
            callbacks=[
                keras.callbacks.EarlyStopping(
                    "val_loss", patience=loop.patience, restore_best_weights=True, mode="min"
                ),
                Progress(f"{self.recipe.task} {self.name}"),
                *([] if live is None else [Curves(live)]),
                *([] if self.report is None else [Reports(self.report, lambda logs: logs["val_auc"])]),
            ],
            verbose=0,
            shuffle=True,
        )
        require_finite(self.network.get_weights(), self.recipe.task, loop.learning_rate)

    def _compile(self) -> None:
        import tensorflow as tf

        # Keras' predict() leaks memory and is slow when called in a loop (Keras issue 13118).
        self._function = tf.function(lambda x: self.network(x, training=False), reduce_retracing=True)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`. Batches are padded to a few fixed sizes, so nothing is compiled while serving."""
        x = self.inputs(inputs)
        parts = []
        for begin in range(0, len(inputs), _BUCKETS[-1]):
            part = {name: values[begin : begin + _BUCKETS[-1]] for name, values in x.items()}
            rows = len(part["item"])
            bucket = next(size for size in _BUCKETS if size >= rows)
            padded = {n: np.concatenate([v, np.zeros((bucket - rows, *v.shape[1:]), v.dtype)]) for n, v in part.items()}
            parts.append(self._function(padded).numpy()[:rows])
        score = np.concatenate(parts).astype(np.float32, copy=False)
        return focal_probability(score, _GAMMA) if self.recipe.loss == "binary_focal_crossentropy" else score

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the weights."""
        self.network.save_weights(folder / _WEIGHTS)
        return {"scaler": self.scaler.as_json()}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Rebuild the network and load the weights."""
        self.scaler = Scaler.from_json(kept["scaler"])
        self.build()
        self.network.load_weights(folder / _WEIGHTS)
        self._compile()

    def parameter_count(self) -> int:
        """Return the number of trainable weights."""
        return int(sum(np.prod(weight.shape) for weight in self.network.trainable_weights))
