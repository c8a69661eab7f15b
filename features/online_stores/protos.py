"""Values as Feast's messages, and back."""

from typing import Any

from feast.protos.feast.types import Value_pb2 as messages
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from features.online_stores.shape import Kind, ViewShape
from shoplens.errors import FeatureError

_LISTS = {
    "int32_list_val": messages.Int32List,
    "int64_list_val": messages.Int64List,
    "float_list_val": messages.FloatList,
    "double_list_val": messages.DoubleList,
    "bool_list_val": messages.BoolList,
    "string_list_val": messages.StringList,
}


def to_proto(kind: Kind, value: Any) -> Value:
    """Return Feast's message of a plain value; a missing one is an empty message."""
    if value is None:
        return Value()
    return Value(**{kind.proto: _LISTS[kind.proto](val=value) if kind.is_list else value})


def from_proto(value: Value | None) -> Any:
    """Return the plain value of Feast's message."""
    field = None if value is None else value.WhichOneof("val")
    if field is None or field == "null_val":
        return None
    content = getattr(value, field)
    return list(content.val) if field in _LISTS else content


def key_of(shape: ViewShape, key: EntityKey) -> tuple[str, ...]:
    """Return the key of a row, in the order of the shape's keys.

    Raises:
        FeatureError: it is not the key of this view, or not a text.
    """
    parts = dict(zip(key.join_keys, key.entity_values, strict=True))
    if set(parts) != set(shape.keys):
        raise FeatureError(f"keys of {shape.name}: must be {', '.join(shape.keys)}; received {', '.join(parts)}")
    for name, value in parts.items():
        if value.WhichOneof("val") != "string_val":
            raise FeatureError(f"{name} of {shape.name}: must be a text; received {value.WhichOneof('val')}")
    return tuple(parts[name].string_val for name in shape.keys)
