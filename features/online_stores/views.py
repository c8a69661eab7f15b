"""Online views: key, features and types, and the row encoding that all stores share.

An encoded row is one missing bit per feature, then the little-endian numbers, each at its own width, then the texts and
lists as a JSON object, in order (floats in lists are texts, because JSON has no infinity). Values round-trip exactly,
except that NaN becomes missing, as in Feast, and negative zero becomes zero (lists keep both).
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from features.tombstones import ERASABLE_KEY
from shoplens.errors import FeatureError

if TYPE_CHECKING:
    from feast import FeatureView

# Type codes of numbers for `struct` and NumPy, both prefixed with "<".
_CODES = {"int32": "i", "int64": "q", "float32": "f", "float64": "d", "bool": "?"}
_SCALARS = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
TYPES: dict[str, pa.DataType] = _SCALARS | {f"array({name})": pa.list_(one) for name, one in _SCALARS.items()}
Encoded = tuple[str, str, int, bytes]  # a stored row: view, key, event time, encoded features


class Row(NamedTuple):
    """The features of one entity in one view.

    Attributes:
        key: Value of the view's join key.
        event_micros: Event time in microseconds since 1970 (UTC). The latest row per key is kept; with equal event
            times, the one written last.
        values: Python values (int, float, bool, str, a list of them, or None) in the order of `View.names`.
    """

    key: str
    event_micros: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class View:
    """An online store's description of a view.

    Attributes:
        name: Name of the view.
        key: Name of its join key, a string.
        features: Name and type (a key of `TYPES`) of each feature, in the order of the definition.
        ttl_seconds: Age at which a row expires; 0 for never.
    """

    name: str
    key: str
    features: tuple[tuple[str, str], ...]
    ttl_seconds: float = 0.0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(name for name, _ in self.features)

    @property
    def of_people(self) -> bool:
        """Whether the rows are about people, so that they can be erased."""
        return self.key == ERASABLE_KEY

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns that a written batch must have: the key, `event_timestamp` and features."""
        features = [(name, TYPES[kind]) for name, kind in self.features]
        return pa.schema([(self.key, pa.string()), ("event_timestamp", pa.timestamp("us", "UTC")), *features])

    @classmethod
    def of(cls, view: "FeatureView") -> "View":
        """Build a View from a Feast feature view.

        Raises:
            FeatureError: a feature has an unsupported type, or the view does not have exactly one String join key.
        """
        keys = [(column.name, str(column.dtype).lower()) for column in view.entity_columns]
        features = tuple((feature.name, str(feature.dtype).lower()) for feature in view.features)
        if [kind for _, kind in keys] != ["string"]:
            raise FeatureError(f"online view {view.name}: must have one join key, a String; received {dict(keys)}")
        for name, kind in features:
            if kind not in TYPES:
                raise FeatureError(f"{name} of {view.name}: must be one of {', '.join(TYPES)}; received {kind}")
        return cls(view.name, keys[0][0], features, view.ttl.total_seconds() if view.ttl else 0.0)

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Convert rows to a column batch; `encode` checks the types."""
        table = [(row.key, row.event_micros, *row.values) for row in rows]
        return pa.record_batch({name: [row[n] for row in table] for n, name in enumerate(self.schema.names)})

    def _checked(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Return the columns of `schema`, cast to their types."""
        if missing := set(self.schema.names) - set(batch.schema.names):
            raise FeatureError(f"rows of {self.name}: must have the columns {', '.join(sorted(missing))}")
        columns = []
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            try:
                columns.append(batch.column(name).cast(kind))
            except pa.ArrowException as error:
                raise FeatureError(f"{name} of {self.name}: must be {kind} ({error})") from error
            required = columns[-1] if len(columns) <= 2 else columns[-1].flatten() if pa.types.is_list(kind) else None
            if required is not None and required.null_count:
                raise FeatureError(f"{name} of {self.name}: must not have nulls; received {required.null_count}")
        return columns

    @cached_property
    def _layout(self) -> tuple[struct.Struct, np.dtype[Any]]:
        """The layout of a row's missing bits and numbers."""
        bits = (len(self.features) + 7) // 8
        codes = [_CODES[kind] for _, kind in self.features if kind in _CODES]
        fields = [(str(place), f"<{code}") for place, code in enumerate(codes)]
        return struct.Struct(f"<{bits}s{''.join(codes)}"), np.dtype([("missing", "u1", (bits,)), *fields])

    def encode(self, batch: pa.RecordBatch) -> list[Encoded]:
        """Encode the rows of a batch; columns that are not in `schema` are ignored.

        Raises:
            FeatureError: a column is missing or has another type, or a key, an event time or a list element is null.
        """
        keys, moments, *columns = self._checked(batch)
        _, layout = self._layout
        records = np.zeros(len(keys), layout)
        missing = np.zeros((len(keys), len(columns)), dtype=bool)
        fields = iter(layout.names[1:] if layout.names else ())
        others = {}
        for place, (column, (_, kind)) in enumerate(zip(columns, self.features, strict=True)):
            missing[:, place] = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            if kind in _CODES:
                numbers = column.fill_null(pa.scalar(0).cast(column.type)).to_numpy(zero_copy_only=False)
                records[next(fields)] = np.where(missing[:, place], 0, numbers + numbers.dtype.type(0))
            elif "float" in kind:
                others[str(place)] = pl.Series(column).cast(pl.List(pl.Float64)).cast(pl.List(pl.String))
            else:
                others[str(place)] = pl.Series(column)
        records["missing"] = np.packbits(missing, axis=1, bitorder="little")
        raw, width = records.tobytes(), layout.itemsize
        contents = [raw[begin : begin + width] for begin in range(0, len(raw), width)]
        if others:
            tails = pl.DataFrame(others).select(pl.struct(pl.all()).struct.json_encode()).to_series()
            contents = [head + tail.encode() for head, tail in zip(contents, tails, strict=True)]
        micros = moments.cast(pa.int64()).to_numpy().tolist()
        return list(zip(repeat(self.name), keys.to_pylist(), micros, contents, strict=False))

    def decode(self, content: bytes) -> tuple[Any, ...]:
        """Decode a row to Python values: int, float, bool, str, a list of them, or None if missing."""
        numbers, _ = self._layout
        flags, *values = numbers.unpack_from(content)
        missing = int.from_bytes(flags, "little")
        if len(values) == len(self.features) and not missing:
            return tuple(values)
        number, other = iter(values), iter(json.loads(content[numbers.size :] or b"{}").values())
        merged = [next(number if kind in _CODES else other) for _, kind in self.features]
        for place, (_, kind) in enumerate(self.features):
            if missing >> place & 1:
                merged[place] = None
            elif kind in ("array(float32)", "array(float64)"):
                merged[place] = list(map(float, merged[place]))
        return tuple(merged)
