"""Online views: their keys, their features and types, and the rows that a store holds of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from features.online_stores.codec import Codec
from features.tombstones import ERASABLE_KEY
from shoplens.errors import FeatureError

if TYPE_CHECKING:
    from feast import FeatureView

Key = tuple[str, ...]
_SCALARS = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
TYPES: dict[str, pa.DataType] = _SCALARS | {f"array({name})": pa.list_(one) for name, one in _SCALARS.items()}
_SEPARATOR = "\x1f"  # between the parts of a key, as the stores keep it


class Row(NamedTuple):
    """The features of one entity in one view.

    Attributes:
        key: Values of the view's join keys, in the order of `View.keys`.
        event_micros: Event time in microseconds since 1970, UTC. Of two rows with one key the later one is kept; of
            two with the same event time the one written last.
        values: Python values (int, float, bool, str, a list of them, or None) in the order of `View.names`.
    """

    key: Key
    event_micros: int
    values: tuple[Any, ...]


Encoded = tuple[str, str, int, bytes]  # a row as the stores keep it: view, key, event time, encoded features


@dataclass(frozen=True)
class View:
    """A view as an online store knows it.

    Attributes:
        name: Name of the view.
        keys: Names of its join keys, sorted; all of them are strings.
        features: Name and type (a key of `TYPES`) of each feature, in the order of the definition.
        ttl_seconds: Age at which a row expires; 0: never.
    """

    name: str
    keys: tuple[str, ...]
    features: tuple[tuple[str, str], ...]
    ttl_seconds: float = 0.0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(name for name, _ in self.features)

    @cached_property
    def codec(self) -> Codec:
        """Encoder and decoder of this view's rows."""
        return Codec([TYPES[kind] for _, kind in self.features])

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns that a written batch must have: keys, `event_timestamp` and features."""
        keys, time = [(key, pa.string()) for key in self.keys], pa.timestamp("us", "UTC")
        return pa.schema([*keys, ("event_timestamp", time), *((name, TYPES[kind]) for name, kind in self.features)])

    @classmethod
    def of(cls, view: "FeatureView") -> "View":
        """Return the description of a Feast view.

        Raises:
            FeatureError: a feature has a type that the stores do not hold, or a join key is not a string.
        """
        features = tuple((feature.name, str(feature.dtype).lower()) for feature in view.features)
        keys = sorted((column.name, str(column.dtype).lower()) for column in view.entity_columns)
        for allowed, columns in ((["string"], keys), (list(TYPES), features)):
            for name, kind in columns:
                if kind not in allowed:
                    raise FeatureError(f"{name} of {view.name}: must be one of {', '.join(allowed)}; received {kind}")
        ttl = view.ttl.total_seconds() if view.ttl else 0.0
        return cls(view.name, tuple(name for name, _ in keys), features, ttl)

    @staticmethod
    def key_text(key: Key) -> str:
        """Return a key as the stores keep it."""
        return _SEPARATOR.join(key)

    def key_parts(self, text: str) -> Key:
        """Return the key that `key_text` gave this text."""
        return (text,) if len(self.keys) == 1 else tuple(text.split(_SEPARATOR))

    def user_of(self, text: str) -> str:
        """Return the user whom the row with this `key_text` is about; empty where the view is not keyed by users."""
        return self.key_parts(text)[self.keys.index(ERASABLE_KEY)] if ERASABLE_KEY in self.keys else ""

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Return rows as a batch with the columns of `schema`.

        Raises:
            FeatureError: a value does not have the type of its feature.
        """
        table = [(*row.key, row.event_micros, *row.values) for row in rows]
        arrays = []
        for place, field in enumerate(self.schema):
            column = [row[place] for row in table]
            try:
                arrays.append(pa.array(column, field.type))
                if "int" in str(field.type) and arrays[-1].to_pylist() != column:  # Arrow cuts off fractions
                    raise ValueError("a fraction")
            except (pa.ArrowException, OverflowError, ValueError) as error:
                raise FeatureError(f"{field.name} of {self.name}: must be {field.type} ({error})") from error
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def encode(self, batch: pa.RecordBatch) -> list[Encoded]:
        """Return the rows of a batch as the stores keep them; columns that are not in `schema` are ignored.

        Raises:
            FeatureError: a column is missing or has another type, or a key, an event time or a list element is null.
        """
        if missing := set(self.schema.names) - set(batch.schema.names):
            raise FeatureError(f"rows of {self.name}: must have the columns {', '.join(sorted(missing))}")
        try:
            columns = [batch.column(field.name).cast(field.type) for field in self.schema]
        except pa.ArrowException as error:
            raise FeatureError(f"rows of {self.name}: must have the types of the view ({error})") from error
        width = len(self.keys)
        keys, micros, features = columns[:width], columns[width].cast(pa.int64()), columns[width + 1 :]
        lists = [column.values for column in features if pa.types.is_list(column.type)]
        if nulls := sum(column.null_count for column in (*keys, micros, *lists)):
            raise FeatureError(
                f"rows of {self.name}: must not have nulls in keys, event times or lists; received {nulls}"
            )
        if width > 1 and any(pc.any(pc.match_substring(key, _SEPARATOR)).as_py() for key in keys):
            raise FeatureError(f"keys of {self.name}: must not contain the character {_SEPARATOR!r}")
        texts = keys[0] if width == 1 else pc.binary_join_element_wise(*keys, _SEPARATOR)
        plain = [column.to_numpy(zero_copy_only=False).tolist() for column in (texts, micros)]
        return list(zip(repeat(self.name), *plain, self.codec.encode(features), strict=False))
