"""The base of all deep models: inputs, heads, loss, training, compiled prediction, weights.

An architecture implements only `encode`, which maps event vectors to event vectors. Training is seeded and
deterministic: on one machine, the same rows and recipe give the same weights.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from shoplens.errors import ModelError
from training.calibration import focal_probability
from training.loop import Curves, Progress
from training.models.contract import FloatArray, Model
from training.models.layers import EventEmbedding, ItemEmbedding, NextItemHead
from training.models.ranking import Ranking, top_items
from training.models.scaler import Scaler
from training.rows import Inputs, RowSet

_WEIGHTS = "model.weights.h5"
_BUCKETS = (1, 32, 512)  # batch sizes for which prediction is compiled; a batch is padded to the next larger one
_HOUR = np.timedelta64(3_600_000_000, "us")
_GAMMA = 2.0  # of the focal loss (Lin et al., ICCV 2017, where it works best)
_MEMORY = 128  # events of the history that can be repeated
_MAX_TARGETS = 24  # items per basket; a larger basket is thinned out evenly, to bound memory


def _target_counts(train: RowSet, size: int) -> NDArray[np.float64]:
    """Return how often each catalogue index was a target in the last four weeks of training, (size,)."""
    newest = train.inputs.now >= train.inputs.now.max() - np.timedelta64(28, "D")
    targets = [train.target_sets[k] for k in np.flatnonzero(newest)]
    counts = np.bincount(np.concatenate(targets), minlength=size).astype(np.float64)
    counts[:2] = 0
    return counts


class DeepModel(Model):
    """A sequence encoder combined with tabular features."""

    tasks = frozenset({"purchase", "next_item"})

    @abstractmethod
    def encode(self, events: Any, valid: Any) -> Any:
        """Return the encoded events, (batch, length, width).

        Args:
            events: Event vectors, (batch, length, width), zero for padding on the left.
            valid: False for padding, (batch, length); padding must not influence the vector of a valid event.
        """

    def inputs(self, rows: Inputs) -> dict[str, NDArray[Any]]:
        """Return the input arrays of the network."""
        recent = rows.history.window(self.recipe.network.length)
        hours = (rows.now[:, None] - recent.event_time) / _HOUR
        hours = np.where(recent.valid & ~np.isnat(recent.event_time), hours, 0)
        numbers = np.stack([np.log1p(np.maximum(hours, 0)), np.log1p(recent.order_code)], axis=-1)
        return {
            "item": recent.item_index,
            "name": recent.event_code.astype(np.int32),
            "numbers": numbers.astype(np.float32),
            "history": rows.history.window(_MEMORY).item_index,
            "tabular": self.scaler.apply(rows),
        }

    def build(self, history: int) -> None:
        """Create the layers and two graphs for N recent events: `network` for prediction, `learner` for training."""
        size = self.recipe.network
        given = {
            "item": keras.Input((size.length,), dtype="int32", name="item"),
            "name": keras.Input((size.length,), dtype="int32", name="name"),
            "numbers": keras.Input((size.length, 2), name="numbers"),
            "history": keras.Input((history,), dtype="int32", name="history"),
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
        summary = layers.Dropout(size.dropout, seed=self.recipe.seed)(
            layers.Dense(2 * size.width, activation="gelu")(summary)
        )
        if self.recipe.task == "purchase":
            output = layers.Dense(1, activation="sigmoid", name="purchase")(summary)[:, 0]
            self.network = self.learner = keras.Model(given, output)
            return
        head = NextItemHead(items, self.log_popularity, history, self.recipe.sampled_negatives, name="next_item")
        self.network = keras.Model(given, head(summary, given["history"]))
        targets = keras.Input((_MAX_TARGETS,), dtype="int32", name="targets")
        loss = _Loss(head, sampled=self.recipe.loss == "sampled_softmax")(summary, given["history"], targets)
        self.learner = keras.Model({**given, "targets": targets}, loss)

    def _examples(self, rows: RowSet) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """Return the inputs and targets of the learner."""
        x = self.inputs(rows.inputs)
        if self.recipe.task == "purchase":
            return x, rows.labels
        x["targets"] = _pad(rows.target_sets)
        return x, np.zeros(len(rows), dtype=np.float32)

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Build the network, and train it until the validation loss stops improving; keep the best weights.

        Raises:
            ModelError: the loss did not stay finite.
        """
        keras.utils.clear_session()
        keras.utils.set_random_seed(self.recipe.seed)
        self.scaler = Scaler.fit(train.inputs)
        if self.recipe.task == "next_item":
            counts = _target_counts(train, self.catalogue.size) + 0.5
            self.log_popularity = np.log(counts / counts.sum()).astype(np.float32)
        self.build(_MEMORY)
        self._learn(train, validation, live)
        self._compile()

    def _learn(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        loop, purchase = self.recipe.loop, self.recipe.task == "purchase"
        optimizer = keras.optimizers.get(
            {"class_name": loop.optimizer, "config": {"learning_rate": loop.learning_rate, "clipnorm": 1.0}}
        )
        losses = {"binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy(gamma=_GAMMA)}
        # The learner's output for the next item is its loss.
        loss = losses.get(self.recipe.loss, self.recipe.loss) if purchase else lambda _, computed: computed
        metrics = [keras.metrics.AUC(name="auc")] if purchase else []
        self.learner.compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=False)
        x, y = self._examples(train)
        order = np.random.default_rng(self.recipe.seed).permutation(len(train))
        self.learner.fit(
            {name: values[order] for name, values in x.items()},
            y[order],
            batch_size=loop.batch_size,
            epochs=loop.epochs,
            validation_data=self._examples(validation),
            callbacks=[
                keras.callbacks.EarlyStopping(
                    "val_loss", patience=loop.patience, restore_best_weights=True, mode="min"
                ),
                Progress(f"{self.recipe.task} {self.name}"),
                *([] if live is None else [Curves(live)]),
            ],
            verbose=0,
            shuffle=True,
        )
        if not all(np.isfinite(values).all() for values in self.learner.get_weights()):
            raise ModelError(
                f"train.{self.recipe.task}.loop.learning_rate: the loss must stay finite; it did not with "
                f"{loop.learning_rate:g}. Lower the learning rate"
            )

    def _compile(self) -> None:
        import tensorflow as tf

        # Keras' predict() leaks memory and is slow when called in a loop (Keras issue 13118).
        self._function = tf.function(lambda x: self.network(x, training=False), reduce_retracing=True)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        score = self._run(inputs)
        return focal_probability(score, _GAMMA) if self.recipe.loss == "binary_focal_crossentropy" else score

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`."""
        return top_items(self._run(inputs), k)

    def _run(self, inputs: Inputs) -> FloatArray:
        """Run the network. Batches are padded to a few fixed sizes, so nothing is compiled while serving."""
        x = self.inputs(inputs)
        parts = []
        for begin in range(0, len(inputs), _BUCKETS[-1]):
            part = {name: values[begin : begin + _BUCKETS[-1]] for name, values in x.items()}
            rows = len(part["item"])
            bucket = next(size for size in _BUCKETS if size >= rows)
            padded = {n: np.concatenate([v, np.zeros((bucket - rows, *v.shape[1:]), v.dtype)]) for n, v in part.items()}
            parts.append(self._function(padded).numpy()[:rows])
        return cast(FloatArray, np.concatenate(parts).astype(np.float32, copy=False))

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the weights."""
        self.network.save_weights(folder / _WEIGHTS)
        return {"scaler": self.scaler.as_json(), "history": _MEMORY}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Rebuild the network and load the weights."""
        self.scaler = Scaler.from_json(kept["scaler"])
        self.log_popularity = np.zeros(self.catalogue.size, dtype=np.float32)
        self.build(int(kept["history"]))
        self.network.load_weights(folder / _WEIGHTS)
        self._compile()

    def parameter_count(self) -> int:
        """Return the number of trainable weights."""
        return int(sum(np.prod(weight.shape) for weight in self.network.trainable_weights))


class _Loss(layers.Layer):
    """The loss of the next-item head as a layer, so that the learner is an ordinary functional model."""

    def __init__(self, head: NextItemHead, *, sampled: bool) -> None:
        super().__init__()
        self.head, self.sampled = head, sampled

    def call(self, summary: Any, history: Any, targets: Any) -> Any:
        """Return the loss of each row, (batch,)."""
        return self.head.loss(summary, history, targets, sampled=self.sampled)


def _pad(targets: list[NDArray[np.int32]]) -> Any:
    """Return the targets as an array, (rows, _MAX_TARGETS), padded with 0; larger sets keep evenly spaced members."""
    kept = [
        members if len(members) <= _MAX_TARGETS else members[np.linspace(0, len(members) - 1, _MAX_TARGETS).astype(int)]
        for members in targets
    ]
    return keras.utils.pad_sequences(kept, _MAX_TARGETS, padding="post")
