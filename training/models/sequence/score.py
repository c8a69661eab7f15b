"""Scores and recommendations of a trained sequence model; the catalogue's rows are computed once."""

from collections.abc import Iterator

import numpy as np
from keras import ops
from numpy.typing import NDArray

from training.data.sequences import PADDING, Sequences
from training.data.windows import Batch, Longs, Windows, packed_rows
from training.models.sequence.model import SequenceModel
from training.protocols.ranks import Floats, rows_at_once, seen_pairs
from training.protocols.splits import Queries

_ROWS = 64  # packed rows per forward pass
_QUERIES = 16_384  # queries whose windows are packed at once


def query_windows(queries: Queries, length: int) -> Windows:
    """Return windows in which every query has its last `length` events, or all if there are fewer.

    Queries whose whole history fits share one window per user: a causal encoder answers them in one pass. Each later
    query has its own window, of which only the last position is used.
    """
    near = queries.target - queries.begin <= length
    begin, where = np.unique(queries.begin[near], return_inverse=True)
    last = np.zeros(len(begin), np.int64)
    np.maximum.at(last, where, queries.target[near])
    far = queries.target[~near]
    return Windows(
        np.concatenate([begin, far - length]),
        np.concatenate([last - begin, np.full(len(far), length)]),
        np.concatenate([np.zeros(len(begin), np.int64), np.full(len(far), length - 1)]),
    )


class ModelScorer:
    """Scores all items with a sequence model."""

    def __init__(self, model: SequenceModel) -> None:
        self._model = model
        self._table: Floats = ops.convert_to_numpy(model.catalogue())  # (items, width)

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """See `training.protocols.ranks.Scorer`."""
        for begin in range(0, len(queries), _QUERIES):
            for number, scores in self._score(sequences, queries.take(slice(begin, begin + _QUERIES))):
                yield begin + number, scores

    def _score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        order = np.argsort(queries.target, kind="stable")
        sorted_targets = queries.target[order]
        length, rows = self._model.size.length, rows_at_once(len(self._table))
        for batch in packed_rows(sequences, query_windows(queries, length), length, _ROWS):
            number, states = self._answered(batch, sorted_targets)
            for begin in range(0, len(number), rows):
                part = slice(begin, begin + rows)
                yield order[number[part]], states[part] @ self._table.T

    def _answered(self, batch: Batch, sorted_targets: Longs) -> tuple[Longs, Floats]:
        """Return which of the sorted targets a batch answers, and the states that answer them."""
        event = batch["event"]
        counts = batch["target"] != PADDING
        place = np.minimum(np.searchsorted(sorted_targets, event), len(sorted_targets) - 1)
        asked = counts & (sorted_targets[place] == event)
        return place[asked], self._model.states(batch)[asked]

    def recommend(
        self, history: Sequences, k: int, *, mask_seen: bool, asked: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int32], Floats]:
        """Return the k best items of each user and their scores, (users, k), best first.

        Args:
            history: The events of each user, at least one.
            k: Items to return, at most all of the catalogue.
            mask_seen: Whether to leave out the items of the history.
            asked: The time of each recommendation, in Unix seconds, (users,); None for the time of the user's last
                event. Only a time-aware model reads it.
        """
        k = min(k, len(self._table))
        found, value = [], []
        length, rows = self._model.size.length, rows_at_once(len(self._table))
        for begin in range(0, history.users, rows):
            users = np.arange(begin, min(begin + rows, history.users))
            first, stop = history.offsets[users], history.offsets[users + 1]
            batch = _last_windows(history, first, stop, length, None if asked is None else asked[users])
            states = self._model.states(batch)[np.arange(len(users)), np.minimum(stop - first, length) - 1]
            scores = states @ self._table.T
            if mask_seen:
                scores[seen_pairs(history, Queries(users, first, stop))] = -np.inf
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            top = np.take_along_axis(scores, best, axis=1)
            order = np.lexsort((best, -top), axis=1)
            found.append(np.take_along_axis(best, order, axis=1).astype(np.int32) + 1)
            value.append(np.take_along_axis(top, order, axis=1))
        return np.concatenate(found), np.concatenate(value)


def _last_windows(history: Sequences, first: Longs, stop: Longs, length: int, asked: NDArray[np.int64] | None) -> Batch:
    """Return one row per user with the last events, padded on the right to `length`."""
    start = np.maximum(first, stop - length)
    column = np.arange(length)
    event = np.minimum(start[:, None] + column, stop[:, None] - 1)
    inside = column < (stop - start)[:, None]
    time = history.seconds(event)
    moment = time.copy()
    if asked is not None and history.time is not None:
        moment[np.arange(len(first)), stop - start - 1] = asked - history.time[0]
    return {
        "item": np.where(inside, history.item[event], PADDING).astype(np.int32),
        "segment": inside.astype(np.int32),
        "position": np.where(inside, column, 0).astype(np.int32),
        "time": time,
        "asked": moment,
    }
