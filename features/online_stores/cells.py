"""Values as they are kept: a cell is None, an int, a float, a str, or, for a list, its packed bytes.

Lists of numbers are packed as their little-endian bytes, exact to the bit. Lists of texts are packed as a count, the
bytes of each, and all the text (UTF-8): so both are slices of Arrow's own buffers. NaN alone is a missing value, as in
Feast, and minus zero is zero, as in SQLite; within a list both are kept.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.online_stores.shape import Kind, ViewShape
from shoplens.errors import FeatureError

Cell = int | float | str | bytes | None


def pack(kind: Kind, value: Any) -> Cell:
    """Return the cell of a plain value.

    Raises:
        FeatureError: the value is not of this kind.
    """
    if value is None:
        return None
    try:
        return _pack_list(kind, value) if kind.is_list else _PACK[kind.name](value)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise FeatureError(
            f"feature value: must be {kind.name} ({error}); received a {type(value).__name__}"
        ) from error


def _int(bits: int) -> Callable[[Any], int]:
    def pack_int(value: Any) -> int:
        number = int(value)
        if number != value or not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise ValueError(f"a whole number of {bits} bits")
        return number

    return pack_int


def _float32(value: Any) -> float | None:
    return None if math.isnan(value) else float(np.float32(value)) + 0.0


def _float64(value: Any) -> float | None:
    return None if math.isnan(value) else float(value) + 0.0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


_PACK: dict[str, Callable[[Any], Cell]] = {
    "int32": _int(32),
    "int64": _int(64),
    "float32": _float32,
    "float64": _float64,
    "bool": lambda value: int(bool(value)),
    "string": _text,
}


def _pack_list(kind: Kind, values: Sequence[Any]) -> bytes:
    if kind.code:
        found = np.asarray(values)
        packed = found.astype(kind.dtype) if found.dtype.kind == "f" else np.asarray(values, dtype=kind.dtype)
        if found.ndim != 1 or (kind.code in "iq" and not np.array_equal(found, packed)):
            raise ValueError("a list of them")
        return packed.tobytes()
    parts = [value.encode() for value in values]
    return np.array([len(parts), *map(len, parts)], dtype="<u4").tobytes() + b"".join(parts)


def unpack(kind: Kind, cell: Any) -> Any:
    """Return the plain value of a cell."""
    if cell is None:
        return None
    if not kind.is_list:
        return bool(cell) if kind.code == "?" else cell
    if kind.code:
        return np.frombuffer(cell, dtype=kind.dtype).tolist()
    count = int.from_bytes(cell[:4], "little")
    begin, texts = 4 + 4 * count, []
    for length in np.frombuffer(cell, dtype="<u4", count=count, offset=4).tolist():
        texts.append(str(cell[begin : begin + length], "utf-8"))
        begin += length
    return texts


def columns(batch: pa.RecordBatch, shape: ViewShape) -> tuple[list[list[str]], list[int], list[list[Cell]]]:
    """Return the keys, event times and cells of a batch, column by column.

    Args:
        batch: Columns of the view's keys and features, and `event_timestamp`; others are not looked at.
        shape: Of the view.

    Raises:
        FeatureError: a column is missing, of another type, or a key or an event time is null.
    """
    missing = [name for name in (*shape.keys, "event_timestamp", *shape.names) if name not in batch.schema.names]
    if missing:
        raise FeatureError(f"rows of {shape.name}: must have the columns {', '.join(missing)}; received none")
    for name in (*shape.keys, "event_timestamp"):
        if batch.column(name).null_count:
            raise FeatureError(f"{name} of {shape.name}: must not be null; received {batch.column(name).null_count}")
    try:
        keys = [batch.column(name).cast(pa.string()).to_pylist() for name in shape.keys]
        micros = batch.column("event_timestamp").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        cells = [_column(batch.column(name), kind, f"{name} of {shape.name}") for name, kind in shape.features]
    except pa.ArrowInvalid as error:
        raise FeatureError(f"rows of {shape.name}: must have the types of the view ({error})") from error
    return keys, micros.to_numpy().tolist(), cells


def _column(array: pa.Array, kind: Kind, field: str) -> list[Cell]:
    if kind.is_list:
        return _list_column(array.cast(kind.arrow), kind, field)
    array = array.cast(kind.arrow)
    if kind.code in {"f", "d"}:
        cells = (array.to_numpy(zero_copy_only=False) + kind.dtype.type(0)).tolist()
        gaps = array.null_count or pc.any(pc.is_nan(array)).as_py()
        return [None if cell != cell else cell for cell in cells] if gaps else cells
    if kind.code and not array.null_count:
        return array.to_numpy(zero_copy_only=False).astype(kind.dtype).tolist()  # type: ignore[no-any-return]
    return array.to_pylist()  # type: ignore[no-any-return]


def _buffer(array: pa.Array, place: int, dtype: Any) -> NDArray[Any]:
    """Return a buffer of an array as numpy sees it; empty where there is none."""
    buffer = array.buffers()[place]
    return np.frombuffer(buffer, dtype=dtype) if buffer is not None else np.zeros(0, dtype=dtype)


def _bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array, not copied."""
    return np.ascontiguousarray(array).view(np.uint8).data


def _list_column(array: pa.Array, kind: Kind, field: str) -> list[Cell]:
    """Pack each list by slices of what holds them all, without making its values."""
    values = array.values
    if values.null_count:
        raise FeatureError(f"{field}: must hold lists without nulls; received {values.null_count} nulls in them")
    ends = array.offsets.to_numpy().tolist()
    there = array.is_valid().to_pylist() if array.null_count else [True] * len(array)
    spans = zip(there, ends[:-1], ends[1:], strict=True)
    if kind.code:
        width = kind.dtype.itemsize
        data = _bytes(values.to_numpy(zero_copy_only=False).astype(kind.dtype, copy=False))
        return [bytes(data[a * width : b * width]) if valid else None for valid, a, b in spans]
    bounds = _buffer(values, 1, "<i4")[values.offset : values.offset + len(values) + 1]
    if not len(bounds):
        bounds = np.zeros(1, dtype="<i4")
    lengths, text = _bytes(np.diff(bounds).astype("<u4")), _bytes(_buffer(values, 2, np.uint8))
    starts = bounds.tolist()
    return [
        b"".join(((b - a).to_bytes(4, "little"), lengths[4 * a : 4 * b], text[starts[a] : starts[b]]))
        if valid
        else None
        for valid, a, b in spans
    ]
