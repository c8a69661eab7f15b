"""A row of features as bytes, the same in every store.

A bit per feature (missing) · the numbers, each at its own width, little endian · texts and lists, each as 4 bytes of
length and its content. A list of texts is stored as the list of their lengths and their concatenation. Values come back
to the bit, but for NaN, which is a missing value as in Feast, and minus zero, which is zero (in a list both are kept).
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CODES = {pa.int32(): "i", pa.int64(): "q", pa.float32(): "f", pa.float64(): "d", pa.bool_(): "?"}
_LENGTH = np.dtype("<i4")


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    return np.dtype({"i": "<i4", "q": "<i8", "f": "<f4", "d": "<f8", "?": "?"}[_CODES[kind]])


class Codec:
    """Encodes and decodes rows of features of fixed types."""

    def __init__(self, kinds: Sequence[pa.DataType]) -> None:
        """Lay out features of these types (the values of `views.TYPES`), in this order."""
        self._kinds = list(kinds)
        self._numbers = [place for place, kind in enumerate(kinds) if kind in _CODES]
        self._others = [place for place, kind in enumerate(kinds) if kind not in _CODES]
        bits = (len(kinds) + 7) // 8
        self._struct = struct.Struct(f"<{bits}s" + "".join(_CODES[kinds[place]] for place in self._numbers))
        fields = [(str(place), _dtype(kinds[place])) for place in self._numbers]
        self._record = np.dtype([("missing", "u1", (bits,)), *fields])

    def encode(self, columns: Sequence[pa.Array]) -> list[bytes]:
        """Return one value per row of the columns, one column per feature."""
        rows = len(columns[0]) if columns else 0
        records = np.zeros(rows, self._record)
        missing = np.zeros((rows, 8 * self._record["missing"].shape[0]), dtype=bool)
        tails: list[list[bytes]] = []
        for place, column in enumerate(columns):
            missing[:, place] = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            if place in self._numbers:
                filled = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
                records[str(place)] = filled.to_numpy(zero_copy_only=False) + self._record[str(place)].type(0)
                records[str(place)][missing[:, place]] = 0
            else:
                tails += _contents(column)
        records["missing"] = np.packbits(missing, axis=1, bitorder="little")
        raw, width = records.tobytes(), self._record.itemsize
        heads = [raw[begin : begin + width] for begin in range(0, rows * width, width)]
        return list(map(b"".join, zip(heads, *tails, strict=True))) if tails else heads

    def decode(self, content: bytes) -> tuple[Any, ...]:
        """Return the values of a row: int, float, bool, str, a list of them, or None where missing."""
        flags, *numbers = self._struct.unpack_from(content)
        missing = int.from_bytes(flags, "little")
        if not missing and not self._others:
            return tuple(numbers)
        values: list[Any] = [None] * len(self._kinds)
        for place, number in zip(self._numbers, numbers, strict=True):
            values[place] = number
        begin = self._struct.size
        for place in self._others:
            values[place], begin = _read(self._kinds[place], content, begin)
        if missing:
            values = [None if missing >> place & 1 else value for place, value in enumerate(values)]
        return tuple(values)


def _sized(contents: Sequence[bytes]) -> list[bytes]:
    return [len(content).to_bytes(4, "little") + content for content in contents]


def _contents(column: pa.Array) -> list[list[bytes]]:
    """Return the sized parts of a column of texts or lists, one list per part; a missing value has empty parts."""
    if pa.types.is_string(column.type):
        return [_sized(column.fill_null("").cast(pa.binary()).to_numpy(zero_copy_only=False))]
    if pa.types.is_string(column.type.value_type):
        lengths = pa.ListArray.from_arrays(column.offsets, pc.binary_length(column.values))
        return [*_contents(lengths), *_contents(pc.binary_join(column, ""))]
    dtype = _dtype(column.type.value_type)
    raw = column.values.to_numpy(zero_copy_only=False).astype(dtype, copy=False).tobytes()
    ends = (column.offsets.to_numpy().astype(np.int64) * dtype.itemsize).tolist()
    return [_sized([raw[begin:end] for begin, end in pairwise(ends)])]


def _part(content: bytes, begin: int) -> tuple[bytes, int]:
    end = begin + 4 + int.from_bytes(content[begin : begin + 4], "little")
    return content[begin + 4 : end], end


def _read(kind: pa.DataType, content: bytes, begin: int) -> tuple[Any, int]:
    """Return the text or list that begins at a place, and where it ends."""
    part, end = _part(content, begin)
    if pa.types.is_string(kind):
        return part.decode(), end
    if not pa.types.is_string(kind.value_type):
        return np.frombuffer(part, _dtype(kind.value_type)).tolist(), end
    texts, end = _part(content, end)
    spans = pairwise(accumulate(np.frombuffer(part, _LENGTH).tolist(), initial=0))
    if texts.isascii():
        text = texts.decode()
        return [text[first:last] for first, last in spans], end
    return [texts[first:last].decode() for first, last in spans], end
