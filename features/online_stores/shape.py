"""What a row of a view looks like in an online store: its keys, its features and their types."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from shoplens.errors import FeatureError

if TYPE_CHECKING:
    from feast import FeatureView


@dataclass(frozen=True)
class Kind:
    """A type of features, and what it is called where they are kept.

    Attributes:
        name: As Feast names it, in small letters.
        arrow: Type of a column of them.
        proto: Field of Feast's `Value` message; a list's is `proto` with `_list` before its `_val`.
        sqlite: Declared type of a column; SQLite takes its affinity from it, and a retyped feature is found by it.
        code: The letter of `struct` and the type of numpy for one value; empty where it has no fixed width.
        is_list: A list of such values.
    """

    name: str
    arrow: pa.DataType
    proto: str
    sqlite: str
    code: str
    is_list: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of numpy, little endian, of one value."""
        return np.dtype(f"<{ {'q': 'i8', 'i': 'i4', 'd': 'f8', 'f': 'f4', '?': 'b1'}[self.code] }")


_SCALARS = (
    Kind("int32", pa.int32(), "int32_val", "INT32", "i"),
    Kind("int64", pa.int64(), "int64_val", "INT64", "q"),
    Kind("float32", pa.float32(), "float_val", "FLOAT32", "f"),
    Kind("float64", pa.float64(), "double_val", "FLOAT64", "d"),
    Kind("bool", pa.bool_(), "bool_val", "INT_BOOL", "?"),
    Kind("string", pa.string(), "string_val", "TEXT", ""),
)
_KINDS = {kind.name: kind for kind in _SCALARS} | {
    f"array({kind.name})": Kind(
        f"array({kind.name})", pa.list_(kind.arrow), kind.proto.replace("_val", "_list_val"), f"BLOB {kind.sqlite}",
        kind.code, is_list=True,
    )
    for kind in _SCALARS
}  # fmt: skip


def kind_of(dtype: Any, field: str) -> Kind:
    """Return the kind of a Feast type.

    Raises:
        FeatureError: the online stores do not hold this type.
    """
    name = str(dtype).lower()
    if name not in _KINDS:
        raise FeatureError(f"{field}: must be of a type among {', '.join(_KINDS)}; received {dtype}")
    return _KINDS[name]


class Row(NamedTuple):
    """What is known of one entity in one view.

    Attributes:
        key: Values of the view's join keys, in the order of `ViewShape.keys`.
        event_micros: When it was so: microseconds since 1970, UTC. Of two rows with one key the later stays; of two
            with the same moment the one written last.
        values: Plain Python values (int, float, bool, str, list of them, None) in the order of `ViewShape.names`.
    """

    key: tuple[str, ...]
    event_micros: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class ViewShape:
    """Keys and features of one view.

    Attributes:
        name: Of the view.
        keys: Names of its join keys, which are strings, sorted.
        features: Name and kind of each feature, in the order of the definition.
    """

    name: str
    keys: tuple[str, ...]
    features: tuple[tuple[str, Kind], ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(name for name, _ in self.features)

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of the features."""
        return tuple(kind for _, kind in self.features)

    @classmethod
    def of(cls, view: "FeatureView") -> "ViewShape":
        """Return the shape of a Feast view.

        Raises:
            FeatureError: a type is none that the stores hold, a join key is no string, or two names of columns differ
                in capitals only.
        """
        for column in view.entity_columns:
            if str(column.dtype).lower() != "string":
                raise FeatureError(f"join key {column.name} of {view.name}: must be a String; received {column.dtype}")
        keys = tuple(sorted(column.name for column in view.entity_columns))
        features = tuple((one.name, kind_of(one.dtype, f"feature {one.name} of {view.name}")) for one in view.features)
        seen: dict[str, str] = {}
        for name in (*keys, *(name for name, _ in features)):
            if name.lower() in seen:
                raise FeatureError(
                    f"feature {name} of {view.name}: must differ from {seen[name.lower()]} in more than capitals"
                )
            seen[name.lower()] = name
        return cls(view.name, keys, features)
