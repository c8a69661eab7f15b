"""Counts and neighbours over the same sequences: the simple methods that a network must beat."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from training.data.sequences import Sequences
from training.data.windows import Longs, ragged_ranges
from training.protocols.ranks import Floats, rows_at_once
from training.protocols.splits import Queries, Split

EASE_ITEMS = 20_000  # EASE inverts a dense (items, items) matrix: 3 GB at this size
_NEIGHBOURS = 200
_BLOCK = 512  # items whose neighbours are found at once


class Reference(ABC):
    """A count or neighbour scorer with one setting, chosen on the validation queries from `settings`."""

    name: ClassVar[str]
    settings: ClassVar[tuple[float, ...]]

    @abstractmethod
    def __init__(self, split: Split, setting: float, /) -> None:
        """Learn from the training events of a split."""

    @abstractmethod
    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """See `training.protocols.ranks.Scorer`."""


def _chunks(queries: Queries, items: int) -> Iterator[tuple[Longs, Queries]]:
    rows = rows_at_once(items)
    for begin in range(0, len(queries), rows):
        number = np.arange(begin, min(begin + rows, len(queries)))
        yield number, queries.take(number)


def _training_events(split: Split) -> tuple[Longs, Longs]:
    """Return (event, history) of all training events."""
    return ragged_ranges(split.begin, split.end - split.begin)


def _history(sequences: Sequences, queries: Queries, decay: float) -> sp.csr_array:
    """Return each query's items weighted by decay ** (events since), (queries, items); repeats are added up."""
    event, row = ragged_ranges(queries.begin, queries.target - queries.begin)
    age = queries.target[row] - 1 - event
    weight = (decay**age).astype(np.float32)
    shape = (len(queries), sequences.items)
    return sp.csr_array((weight, (row, sequences.item[event] - 1)), shape=shape)


class Popularity(Reference):
    """The number of training events of each item; if there are times, only among the latest share of them."""

    name = "popularity"
    settings = (1.0, 0.3, 0.1)

    def __init__(self, split: Split, share: float) -> None:
        event, _ = _training_events(split)
        time = split.sequences.time
        if time is not None and share < 1:
            oldest = np.quantile(time[event], 1 - share)
            event = event[time[event] >= oldest]
        items = split.sequences.items
        self._counts = np.bincount(split.sequences.item[event] - 1, minlength=items).astype(np.float32)

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """Yield the same scores for every query."""
        for number, part in _chunks(queries, sequences.items):
            yield number, np.broadcast_to(self._counts, (len(part), len(self._counts)))


class ItemKNN(Reference):
    """The sum over a user's items of their cosine similarity to each item, with more weight for later ones.

    (Deshpande & Karypis, 2004, section 4.) The setting is the decay per event.
    """

    name = "item_knn"
    settings = (1.0, 0.95, 0.8, 0.5)

    def __init__(self, split: Split, decay: float) -> None:
        self._decay = decay
        self._similar = _cosine_neighbours(split)

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """Yield the weighted sums."""
        for number, part in _chunks(queries, sequences.items):
            yield number, (_history(sequences, part, self._decay) @ self._similar).toarray()


class Transitions(Reference):
    """How often each item followed one of the user's latest items: 1 / distance per pair within ten events.

    The setting is the decay per event of the weights of the user's own items.
    """

    name = "transitions"
    settings = (0.9, 0.7, 0.4)
    _reach = 10

    def __init__(self, split: Split, decay: float) -> None:
        self._decay = decay
        items, item = split.sequences.items, split.sequences.item
        total = sp.csr_array((items, items), dtype=np.float32)
        event, row = _training_events(split)
        for distance in range(1, self._reach + 1):
            first = event[event + distance < split.end[row]]
            pairs = (item[first] - 1, item[first + distance] - 1)
            weight = np.full(len(first), 1 / distance, np.float32)
            total = total + sp.csr_array((weight, pairs), shape=(items, items))
        popular = np.sqrt(np.asarray(total.sum(axis=1)).ravel() + 1)
        self._next = sp.csr_array(sp.diags_array(1 / popular) @ total)

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """Yield the weighted sums."""
        for number, part in _chunks(queries, sequences.items):
            yield number, (_history(sequences, part, self._decay) @ self._next).toarray()


class Ease(Reference):
    """EASE: a linear item-item model in closed form (Steck, 2019, algorithm 1). The setting is the L2 penalty."""

    name = "ease"
    settings = (100.0, 300.0, 1000.0)

    def __init__(self, split: Split, penalty: float) -> None:
        users = _user_items(split)
        gram = (users.T @ users).toarray().astype(np.float32)
        gram[np.diag_indices_from(gram)] += penalty
        inverse = np.linalg.inv(gram)
        self._weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self._weights, 0)

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """Yield the linear scores."""
        for number, part in _chunks(queries, sequences.items):
            history = _history(sequences, part, 1.0)
            history.data[:] = 1
            yield number, np.asarray(history @ self._weights, np.float32)


class PersonalFrequency(Reference):
    """The user's own decayed counts, ties broken by popularity. The setting is the decay per event."""

    name = "personal_frequency"
    settings = (1.0, 0.97, 0.9, 0.7)

    def __init__(self, split: Split, decay: float) -> None:
        self._decay = decay
        event, _ = _training_events(split)
        counts = np.bincount(split.sequences.item[event] - 1, minlength=split.sequences.items)
        self._tie = (1e-6 * counts / counts.max()).astype(np.float32)

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """Yield the counts."""
        for number, part in _chunks(queries, sequences.items):
            yield number, _history(sequences, part, self._decay).toarray() + self._tie


def _user_items(split: Split) -> sp.csr_array:
    """Return a matrix that is 1 where a history has an item, (histories, items)."""
    event, row = _training_events(split)
    shape = (len(split.begin), split.sequences.items)
    users = sp.csr_array((np.ones(len(event), np.float32), (row, split.sequences.item[event] - 1)), shape=shape)
    users.data[:] = 1
    return users


def _cosine_neighbours(split: Split) -> sp.csr_array:
    """Return the cosine similarity of each item (row) with its nearest ones (columns), (items, items)."""
    users = _user_items(split)
    norm = np.sqrt(np.maximum(np.asarray(users.sum(axis=0)).ravel(), 1))
    unit = sp.csr_array(users @ sp.diags_array(1 / norm))
    columns = sp.csc_array(unit)
    parts = []
    for begin in range(0, split.sequences.items, _BLOCK):
        block = sp.csr_array(columns[:, begin : begin + _BLOCK].T @ unit)  # (block, items)
        parts.append(_nearest(block, begin))
    return sp.csr_array(sp.vstack(parts, format="csr"))


def _nearest(block: sp.csr_array, first: int) -> sp.csr_array:
    keep: list[NDArray[Any]] = []
    lengths = []
    for row in range(block.shape[0]):
        start, stop = block.indptr[row : row + 2]
        place = np.arange(start, stop)
        place = place[block.indices[place] != first + row]  # an item is no neighbour of itself
        best = place[np.argsort(-block.data[place], kind="stable")[:_NEIGHBOURS]]
        keep.append(best)
        lengths.append(len(best))
    chosen = np.concatenate(keep)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_array((block.data[chosen], block.indices[chosen], offsets), shape=block.shape)


def reference_models(split: Split) -> dict[str, type[Reference]]:
    """Return the references that are feasible for a file, by name."""
    found: list[type[Reference]] = [Popularity, PersonalFrequency, ItemKNN, Transitions]
    if split.sequences.items <= EASE_ITEMS:
        found.append(Ease)
    return {one.name: one for one in found}
