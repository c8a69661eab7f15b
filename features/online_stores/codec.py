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

# The type of a number for `struct` and for NumPy, both after "<".
_CODES = {pa.int32(): "i", pa.int64(): "q", pa.float32(): "f", pa.float64(): "d", pa.bool_(): "?"}


class Codec:
    """Encodes and decodes rows of features of fixed types."""

    def __init__(self, kinds: Sequence[pa.DataType]) -> None:
        """Lay out features of these types (the values of `views.TYPES`), in this order."""
        self._kinds = list(kinds)
        codes = {place: _CODES[kind] for place, kind in enumerate(kinds) if kind in _CODES}
        self._numbers, self._others = list(codes), [place for place in range(len(kinds)) if place not in codes]
        bits = (len(kinds) + 7) // 8
        self._struct = struct.Struct(f"<{bits}s" + "".join(codes.values()))
        self._record = np.dtype(
            [("missing", "u1", (bits,)), *((str(place), f"<{one}") for place, one in codes.items())]
        )

    def encode(self, columns: Sequence[pa.Array]) -> list[bytes]:
        """Return one value per row of the columns, one column per feature."""
        rows = len(columns[0]) if columns else 0
        records = np.zeros(rows, self._record)
        missing = np.zeros((rows, len(columns)), dtype=bool)
        tails: list[list[bytes]] = []
        for place, column in enumerate(columns):
            missing[:, place] = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            if column.type in _CODES:
                numbers = column.fill_null(pa.scalar(0).cast(column.type)).to_numpy(zero_copy_only=False)
                records[str(place)] = np.where(missing[:, place], 0, numbers + numbers.dtype.type(0))
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
        return tuple(None if missing >> place & 1 else value for place, value in enumerate(values))


def _contents(column: pa.Array) -> list[list[bytes]]:
    """Return the parts of a column of texts or lists with their sizes, one list per part; null gives empty parts."""
    if pa.types.is_string(column.type):
        contents = column.fill_null("").cast(pa.binary()).to_numpy(zero_copy_only=False)
    elif pa.types.is_string(column.type.value_type):
        lengths = pa.ListArray.from_arrays(column.offsets, pc.binary_length(column.values))
        return [*_contents(lengths), *_contents(pc.binary_join(column, ""))]
    else:
        numbers = column.values.to_numpy(zero_copy_only=False).astype(f"<{_CODES[column.type.value_type]}")
        raw, width = numbers.tobytes(), numbers.itemsize
        contents = [raw[width * begin : width * end] for begin, end in pairwise(column.offsets.tolist())]
    return [[len(content).to_bytes(4, "little") + content for content in contents]]


def _part(content: bytes, begin: int) -> tuple[bytes, int]:
    """Return the part that begins at a place, and where it ends."""
    end = begin + 4 + int.from_bytes(content[begin : begin + 4], "little")
    return content[begin + 4 : end], end


def _read(kind: pa.DataType, content: bytes, begin: int) -> tuple[Any, int]:
    """Return the text or list that begins at a place, and where it ends."""
    part, end = _part(content, begin)
    if pa.types.is_string(kind):
        return part.decode(), end
    if not pa.types.is_string(kind.value_type):
        return np.frombuffer(part, f"<{_CODES[kind.value_type]}").tolist(), end
    texts, end = _part(content, end)
    spans = pairwise(accumulate(np.frombuffer(part, "<i4").tolist(), initial=0))
    if texts.isascii():
        text = texts.decode()
        return [text[first:last] for first, last in spans], end
    return [texts[first:last].decode() for first, last in spans], end
