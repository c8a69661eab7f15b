"""Windows of users' histories, packed into rows of one length so that almost no padding is computed.

A window is a stretch of one user's events whose every event predicts the next. Several windows share a row; `segment`
tells them apart, and encoders let no state see another segment. Only a pool of windows is in memory at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.sequences import PADDING, Sequences

Longs = NDArray[np.int64]
Batch = dict[str, NDArray[Any]]
_BLOCK = 64  # users that are shuffled together: a memory-mapped file is read in stretches
_POOL = 128  # blocks whose windows are packed and shuffled together


@dataclass(frozen=True)
class Windows:
    """Stretches of events. The event `begin + k` (k < length) is an input, and `begin + k + 1` its target.

    Attributes:
        begin: First input, (windows,).
        length: Number of inputs, (windows,).
        first: The first input whose target counts, (windows,); those before it are context only.
    """

    begin: Longs
    length: Longs
    first: Longs

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, idx: Any) -> "Windows":
        """Return the windows selected by `idx`."""
        return Windows(self.begin[idx], self.length[idx], self.first[idx])


def ragged_ranges(begin: Longs, length: Longs) -> tuple[Longs, Longs]:
    """Return `begin[r], …, begin[r] + length[r] - 1` of all r, and the r of each, both (sum of length,)."""
    row = np.repeat(np.arange(len(length)), length)
    step = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    return begin[row] + step, row


def cut(begin: Longs, end: Longs, length: int, random: np.random.Generator | None = None) -> Windows:
    """Cut histories into windows of at most `length` inputs.

    Args:
        begin: First event of each history, (users,).
        end: One past the last event, which is a target only, (users,).
        length: Most inputs per window.
        random: Shifts the cuts of each history, so that another event loses its context in each epoch. Without it the
            first window is the short one: the last always has its full context.
    """
    inputs = np.maximum(end - begin - 1, 0)
    head = inputs % length  # the inputs before the first full window
    if random is not None:
        shifted = random.integers(1, length + 1, len(inputs))
        head = np.where(inputs > length, shifted, inputs % length)
    pieces = np.where(inputs > 0, (head > 0) + -(-np.maximum(inputs - head, 0) // length), 0)
    number, user = ragged_ranges(np.zeros_like(pieces), pieces)
    start = np.maximum(np.where(head[user] > 0, head[user] + (number - 1) * length, number * length), 0)
    stop = np.minimum(np.where(head[user] > 0, head[user] + number * length, (number + 1) * length), inputs[user])
    return Windows(begin[user] + start, stop - start, np.zeros(len(user), np.int64))


def _pack(lengths: Longs, capacity: int) -> list[list[int]]:
    """Return rows of window numbers, each of at most `capacity` inputs: best fit, longest window first."""
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # free space -> rows
    largest = 0
    for k in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[k])
        free = next((space for space in range(size, largest + 1) if open_rows[space]), None)
        if free is None:
            rows.append([k])
            row, left = len(rows) - 1, capacity - size
        else:
            row, left = open_rows[free].pop(), free - size
            rows[row].append(k)
        if left:
            open_rows[left].append(row)
            largest = max(largest, left)
    return rows


def _batch(sequences: Sequences, windows: Windows, row: Longs, shape: tuple[int, int]) -> Batch:
    """Return the arrays of windows whose rows, in ascending order, are `row`."""
    before = np.cumsum(windows.length) - windows.length
    first = np.searchsorted(row, row)  # the first window of the same row
    column = before - before[first]  # inputs in the row before this window
    segment = np.arange(1, len(windows) + 1) - first
    event, window = ragged_ranges(windows.begin, windows.length)
    step = event - windows.begin[window]
    place = (row[window], column[window] + step)
    target = np.where(step >= windows.first[window], sequences.item[event + 1], PADDING)
    values = {
        "item": sequences.item[event],
        "segment": segment[window],
        "position": step,
        "time": sequences.seconds(event),
        "asked": sequences.seconds(event + 1),
        "target": target,
    }
    batch: Batch = {name: np.zeros(shape, np.int32) for name in values}
    for name, value in values.items():
        batch[name][place] = value
    batch["event"] = np.full(shape, -1, np.int64)
    batch["event"][place] = event + 1
    return batch


def packed_rows(sequences: Sequences, windows: Windows, length: int, rows: int) -> Iterator[Batch]:
    """Yield batches of `rows` rows of `length` inputs that hold all windows; the last batch ends with empty rows.

    A batch has, each (rows, length): `item` (0 for padding), `segment` (from 1; 0 for padding), `position` within the
    window, `time` of the input, `asked` (the time of the target), `target` (0 where it does not count), all int32, and
    `event`, the number of the target event, int64, -1 for padding.
    """
    packed = _pack(windows.length, length)
    for begin in range(0, len(packed), rows):
        planned = packed[begin : begin + rows]
        chosen = windows.take(np.array([k for row in planned for k in row], np.int64))
        row = np.repeat(np.arange(len(planned)), [len(one) for one in planned])
        yield _batch(sequences, chosen, row, (rows, length))


@dataclass(frozen=True)
class Packing:
    """Batches of whole histories, in an order that a seed decides; memory does not grow with the log.

    Users are shuffled in blocks, and windows within a pool of blocks.

    Attributes:
        sequences: The events.
        begin: First event of each history, (users,).
        end: One past its last event, (users,).
        length: Inputs per row.
        rows: Rows per batch; those of a last, incomplete batch are empty.
    """

    sequences: Sequences
    begin: Longs
    end: Longs
    length: int
    rows: int

    def batches(self, *seed: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of one pass over all histories, without the first `skip`; see `packed_rows`."""
        for number, planned in enumerate(self._plan(seed)):
            if number >= skip:
                yield self._join(planned)

    def count(self, *seed: int) -> int:
        """Return the number of batches of one pass."""
        return sum(1 for _ in self._plan(seed))

    def _plan(self, seed: tuple[int, ...]) -> Iterator[list[Windows]]:
        """Yield the batches as lists of rows, each of which is its windows."""
        random = np.random.default_rng(seed)
        blocks = random.permutation(-(-len(self.begin) // _BLOCK))
        waiting: list[Windows] = []
        for pool in range(0, len(blocks), _POOL):
            first = blocks[pool : pool + _POOL] * _BLOCK
            user, _ = ragged_ranges(first, np.minimum(len(self.begin) - first, _BLOCK))
            windows = cut(self.begin[user], self.end[user], self.length, random)
            windows = windows.take(random.permutation(len(windows)))
            packed = _pack(windows.length, self.length)
            waiting += [windows.take(np.array(packed[k])) for k in random.permutation(len(packed))]
            whole = len(waiting) // self.rows * self.rows
            yield from (waiting[k : k + self.rows] for k in range(0, whole, self.rows))
            waiting = waiting[whole:]
        if waiting:
            yield waiting

    def _join(self, planned: list[Windows]) -> Batch:
        names = ("begin", "length", "first")
        windows = Windows(*(np.concatenate([getattr(row, name) for row in planned]) for name in names))
        row = np.repeat(np.arange(len(planned)), [len(one) for one in planned])
        return _batch(self.sequences, windows, row, (self.rows, self.length))
