"""A sequence model: item vectors, an encoder, and an output that shares the item vectors."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from shoplens.errors import ModelError
from training.models import losses
from training.models.sequence.backends import softmax_chunk, sum_over_workers, table_rows
from training.models.sequence.encoder import Size
from training.models.sequence.presets import encoder_class

Loss = Literal["full", "sampled", "gbce"]
CONTEXT = ("item", "segment", "position", "time", "asked")


@dataclass(frozen=True)
class Output:
    """How states become scores, and how they are trained.

    Attributes:
        loss: "full" (softmax over all items), "sampled" (softmax over shared negatives) or "gbce".
        cosine: Whether scores are cosines instead of dot products; this needs a temperature well below 1.
        temperature: The number by which scores are divided.
        smoothing: Label smoothing; "full" only.
        negatives: Shared negatives per step; "sampled" and "gbce" only.
        calibration: t of gBCE.
        chunk: Positions of each row that the full softmax takes at once; None for the default of the backend.
    """

    loss: Loss = "full"
    cosine: bool = False
    temperature: float = 1.0
    smoothing: float = 0.0
    negatives: int = 3000
    calibration: float = 0.75
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.loss not in ("full", "sampled", "gbce"):
            raise ModelError(f"loss: must be full, sampled or gbce; received {self.loss!r}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class ItemVectors(layers.Layer):
    """One vector per item, and one for padding that is never trained because nothing reads it.

    Args:
        items: The number of items.
        width: Length of a vector.
        seed: Seed of the vectors.
        sparse: Whether a training step reads few of the vectors; see `backends.table_rows`.
        more: Arguments of a layer.
    """

    def __init__(self, items: int, width: int, seed: int, *, sparse: bool, **more: Any) -> None:
        super().__init__(**more)
        self.items, self.width, self.sparse = items, width, sparse
        # Small, because the input is added to every block's output: long vectors would at first predict their own item.
        normal = keras.initializers.RandomNormal(stddev=0.02, seed=1000 * seed)
        self.table = self.add_weight(shape=(items + 1, width), initializer=normal, name="table")

    def call(self, item: Any) -> Any:
        """Return the vectors, (..., width), of item numbers, (...)."""
        return ops.cast(self.rows(item), self.compute_dtype)

    def rows(self, item: Any) -> Any:
        """Return the same vectors in the precision of the table."""
        return table_rows(self.table, item, sparse=self.sparse)


def _unit(x: Any) -> Any:
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)


class SequenceModel(keras.Model):
    """Predicts the next item at every position of packed histories.

    Args:
        items: The number of items; they are numbered from 1.
        encoder: Name of the encoder, as in `presets.ENCODERS`.
        size: The encoder's size.
        output: Scores and loss.
        seed: Seed of the weights and the dropout masks.
        time_aware: Whether the encoder gets the time of the prediction. If not, it uses the time of the last event.
        precision: Keras dtype policy of the encoder: "float32", "mixed_bfloat16" or "mixed_float16". Scores and losses
            are float32.
    """

    def __init__(
        self,
        items: int,
        encoder: str,
        size: Size,
        output: Output | None = None,
        *,
        seed: int = 0,
        time_aware: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__(name=encoder)
        self.jit_compile = keras.backend.backend() == "jax"  # XLA halves the speed of TensorFlow on a CPU
        kind = encoder_class(encoder)
        if time_aware and not kind.reads_time:
            raise ModelError(f"time_aware: {encoder} does not read times. Use hstu, or leave time_aware out")
        self.items, self.size, self.output_ = items, size, output or Output()
        self.time_aware = time_aware
        self.vectors = ItemVectors(items, size.width, seed, sparse=self.output_.loss != "full", dtype=precision)
        self.encoder = kind(size, seed, dtype=precision)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return the states that scores are computed from, float32 (batch, length, width).

        Args:
            inputs: `item`, `segment`, `position`, `time` and `asked`, int32 (batch, length) each; `asked` is read by a
                time-aware model only. See `training.data.windows`.
            training: Whether dropout is active.
        """
        context = {name: inputs[name] for name in ("segment", "position", "time")}
        context["asked"] = inputs["asked"] if self.time_aware else inputs["time"]
        states = self.encoder(self._scaled(self.vectors(inputs["item"])), context, training=training)
        states = ops.cast(states, "float32")
        if self.output_.cosine:
            states = _unit(states)
        return states / self.output_.temperature

    def _scaled(self, x: Any) -> Any:
        """Return the vectors times the root of their width (Vaswani et al., 2017, section 3.4)."""
        return x * self.size.width**0.5

    def catalogue(self) -> Any:
        """Return the output vector of each item, float32 (items, width); row k belongs to item k + 1."""
        table = ops.convert_to_tensor(self.vectors.table)[1:]
        return _unit(table) if self.output_.cosine else table

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the sum of the losses divided by the number of positions with a target in all processes.

        Args:
            x: The inputs; with sampled negatives, also `negatives`, (n,), and the logarithms of the expected counts of
                negatives, `log_expected`, (n,), and of targets, `log_expected_target`, (batch, length).
            y: Target items, int32 (batch, length), 0 where there is none.
            y_pred: What `call` returned.
            sample_weight: Not used.
            training: Not used: no regularization depends on it.
        """
        weight = ops.cast(y > 0, "float32")
        target = ops.maximum(y - 1, 0)
        count = ops.maximum(sum_over_workers([ops.sum(weight)])[0], 1.0)
        chosen = self.output_
        if chosen.loss == "full":
            chunk = chosen.chunk or softmax_chunk()
            table = self.catalogue()
            total = losses.full_cross_entropy(y_pred, table, target, weight, smoothing=chosen.smoothing, chunk=chunk)
            return total / count
        positive, sampled = self._rows(y), self._rows(x["negatives"] + 1)
        if chosen.loss == "gbce":
            total = losses.generalized_bce(
                y_pred, positive, target, weight, sampled, x["negatives"],
                number=chosen.negatives, items=self.items, calibration=chosen.calibration,
            )  # fmt: skip
        else:
            total = losses.sampled_softmax(
                y_pred, positive, target, weight, sampled, x["negatives"],
                log_expected=x["log_expected"], log_expected_target=x["log_expected_target"],
            )  # fmt: skip
        return total / count

    def _rows(self, item: Any) -> Any:
        rows = self.vectors.rows(item)
        return _unit(rows) if self.output_.cosine else rows

    def states(self, batch: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return what `call` returns for a batch, without dropout, as a NumPy array."""
        return np.asarray(self.predict_on_batch({name: batch[name] for name in CONTEXT}))

    def describe(self) -> dict[str, Any]:
        """Return the architecture and its parameter counts."""
        table = int(np.prod(self.vectors.table.shape))
        total = int(sum(np.prod(one.shape) for one in self.trainable_variables))
        return {
            "encoder": self.encoder.name_,
            "size": self.size.as_json(),
            "output": self.output_.as_json(),
            "time_aware": self.time_aware,
            "parameters": total,
            "parameters_without_items": total - table,
        }
