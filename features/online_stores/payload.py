"""A row as one value of Redis: the event time first, so that a script compares it without reading the rest.

8 bytes, big endian, signed: microseconds since 1970 · 4 bytes: which layout · a bit a feature: missing · the numbers,
each at its own width, little endian · texts and lists, each as 4 bytes of length and its bytes (see `cells`).
"""

import json
import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from features.online_stores.cells import Cell
from features.online_stores.shape import Kind, ViewShape

_HEAD = struct.Struct(">q4s")


def _has_width(kind: Kind) -> bool:
    return bool(kind.code) and not kind.is_list


class Layout:
    """Writes and reads rows of one shape."""

    def __init__(self, features: Sequence[tuple[str, Kind]]) -> None:
        """Lay out features, given with their kinds."""
        self.features = tuple(features)
        self.text = json.dumps([[name, kind.name] for name, kind in self.features])
        self.id = blake2b(self.text.encode(), digest_size=4).digest()
        self._numbers = [place for place, (_, kind) in enumerate(self.features) if _has_width(kind)]
        self._others = [place for place, (_, kind) in enumerate(self.features) if not _has_width(kind)]
        self._packed = struct.Struct("<" + "".join(self.features[place][1].code for place in self._numbers))
        self._bits = (len(self.features) + 7) // 8

    @classmethod
    def of(cls, shape: ViewShape) -> "Layout":
        """Return the layout of a view's rows."""
        return cls(shape.features)

    def encode(self, micros: Sequence[int], cells: Sequence[Sequence[Cell]]) -> Iterator[bytes]:
        """Yield a value for each row of columns of cells."""
        if not micros:
            return
        missing = np.array([[cell is None for cell in column] for column in cells], dtype=bool).reshape(-1, len(micros))
        bits = np.packbits(missing, axis=0, bitorder="little").T.tobytes()
        gaps = set(np.flatnonzero(missing.any(axis=1)).tolist())
        numbers = [
            [0 if cell is None else cell for cell in cells[place]] if place in gaps else cells[place]
            for place in self._numbers
        ]
        others = [_sized(cells[place]) for place in self._others]
        packed = map(self._packed.pack, *numbers) if numbers else (b"" for _ in micros)
        tails = map(b"".join, zip(*others, strict=True)) if others else (b"" for _ in micros)
        for row, (moment, fixed, tail) in enumerate(zip(micros, packed, tails, strict=True)):
            yield b"".join((_HEAD.pack(moment, self.id), bits[row * self._bits : (row + 1) * self._bits], fixed, tail))

    def decode(self, payload: bytes) -> tuple[int, list[Cell]]:
        """Return the event time and the cells of a value of this layout."""
        micros, _ = _HEAD.unpack_from(payload)
        begin = _HEAD.size + self._bits
        missing = int.from_bytes(payload[_HEAD.size : begin], "little")
        cells: list[Cell] = [None] * len(self.features)
        for place, number in zip(self._numbers, self._packed.unpack_from(payload, begin), strict=True):
            cells[place] = int(number) if number is True or number is False else number
        begin += self._packed.size
        for place in self._others:
            length = int.from_bytes(payload[begin : begin + 4], "little")
            content = payload[begin + 4 : begin + 4 + length]
            cells[place] = content if self.features[place][1].is_list else content.decode()
            begin += 4 + length
        if missing:
            for place in range(len(cells)):
                if missing >> place & 1:
                    cells[place] = None
        return micros, cells


def layout_id(payload: bytes) -> bytes:
    """Return which layout a value has."""
    return payload[8:12]


def _sized(column: Sequence[Any]) -> list[bytes]:
    """Return texts and lists with their lengths before them; a missing one has none."""
    contents = [b"" if cell is None else cell if isinstance(cell, bytes) else cell.encode() for cell in column]
    return [len(content).to_bytes(4, "little") + content for content in contents]
