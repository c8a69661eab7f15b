"""The contract of a sequence encoder: a layer from item vectors to states, each of which sees only its own past."""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import keras
from keras import layers, ops

from shoplens.errors import ModelError

Context = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """The size of an encoder.

    Attributes:
        width: Length of a state vector.
        blocks: Residual blocks.
        heads: Attention heads; `width` is a multiple of it. Ignored by encoders without attention.
        length: Maximum number of events that a state sees.
        dropout: Share of values dropped in training.
    """

    width: int = 64
    blocks: int = 2
    heads: int = 2
    length: int = 200
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ModelError(f"heads: must divide width {self.width}; received {self.heads}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class Encoder(layers.Layer):
    """Maps item vectors to states, both (batch, length, width).

    The state at a position depends only on positions of the same segment up to and including it, whatever else is in
    the row. The context has, each as int32 (batch, length): `segment` (0 is padding), `position` within the segment,
    `time` of each event, and `asked`, the time of the prediction: that of the event itself, unless the model is
    time-aware.

    Attributes:
        name_: The encoder's name on the command line.
        reads_time: Whether times change its states.
    """

    name_: ClassVar[str]
    reads_time: ClassVar[bool] = False

    def __init__(self, size: Size, seed: int, **more: Any) -> None:
        super().__init__(**more)
        self.size = size
        self._seeds: Iterator[int] = itertools.count(1000 * seed + 1)

    def dropout(self) -> layers.Layer:
        """Return a dropout layer whose masks differ from those of every other one."""
        return layers.Dropout(self.size.dropout, seed=next(self._seeds), dtype=self.dtype_policy)

    def small(self) -> keras.initializers.Initializer:
        """Return the initializer of a table, with its own seed."""
        return keras.initializers.RandomNormal(stddev=0.02, seed=next(self._seeds))

    def glorot(self) -> keras.initializers.Initializer:
        """Return the initializer of a matrix, with its own seed; Keras would draw one from Python's `random`."""
        return keras.initializers.GlorotUniform(seed=next(self._seeds))

    def dense(self, width: int, **more: Any) -> layers.Layer:
        """Return a dense layer."""
        return layers.Dense(width, kernel_initializer=self.glorot(), dtype=self.dtype_policy, **more)

    def norm(self) -> layers.Layer:
        """Return a layer normalization."""
        return layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy)


def split_heads(x: Any, heads: int) -> Any:
    """Return (batch, length, heads * width) as (batch, heads, length, width)."""
    length, width = x.shape[1], x.shape[2] // heads
    return ops.transpose(ops.reshape(x, (-1, length, heads, width)), (0, 2, 1, 3))


def join_heads(x: Any) -> Any:
    """Return (batch, heads, length, width) as (batch, length, heads * width)."""
    heads, length, width = x.shape[1:]
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, length, heads * width))


def visible(segment: Any) -> Any:
    """Return whether each position (rows) sees each other one (columns), (batch, length, length) bool."""
    length = segment.shape[1]
    causal = ops.expand_dims(ops.arange(length), 1) >= ops.expand_dims(ops.arange(length), 0)
    same = ops.expand_dims(segment, 2) == ops.expand_dims(segment, 1)
    return ops.logical_and(same, causal)


class Positions(layers.Layer):
    """A learned vector per position, added to the input."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(dtype=encoder.dtype_policy)
        shape = (encoder.size.length, encoder.size.width)
        self.table = self.add_weight(shape=shape, initializer=encoder.small(), name="table")

    def call(self, x: Any, position: Any) -> Any:
        """Return x + table[position]."""
        return x + ops.cast(ops.take(self.table, position, axis=0), x.dtype)
