"""Ranked items: the result of a next-item model, and how it follows from scores."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from features.catalogue import FIRST_INDEX
from training.rows import Inputs


def best_first(row: NDArray[np.int64], score: NDArray[Any]) -> NDArray[np.int64]:
    """Return the order that sorts entries by row, then by descending score; ties stay in order.

    One sort of row + position in (0, 1) takes a third of the time of a sort by two keys. Scores closer than 2**-40 of
    the largest count as ties.
    """
    top = float(np.max(np.abs(score), initial=0.0)) or 1.0
    key = row + 0.5 - 0.49 * (score.astype(np.float64) / top)
    return np.asarray(np.argsort(key, kind="stable"), dtype=np.int64)


@dataclass(frozen=True)
class Ranking:
    """The best items of each row, best first.

    Attributes:
        items: Catalogue indexes, int32 (rows, k); 0 where a model ranks fewer than k items.
        scores: The model's scores, float32 (rows, k), not increasing along a row; -inf where `items` is 0.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def join(cls, parts: "list[Ranking]") -> "Ranking":
        """Return the rows of several rankings with the same k, in order."""
        return cls(np.concatenate([one.items for one in parts]), np.concatenate([one.scores for one in parts]))

    def filled(self, others: NDArray[np.int32]) -> "Ranking":
        """Fill free places with other items, scored below all that are ranked.

        Args:
            others: Catalogue indexes, best first, (rows, n); 0 for none. Items that are ranked already are left out.
        """
        short = np.flatnonzero((self.items == 0).any(axis=1))
        if not len(short):
            return self
        items, scores = self.items.copy(), self.scores.copy()
        for row in short:
            free = np.flatnonzero(items[row] == 0)
            more = others[row][(others[row] > 0) & ~np.isin(others[row], items[row])][: len(free)]
            lowest = scores[row, free[0] - 1] if free[0] else np.float32(0)
            items[row, free[: len(more)]] = more
            scores[row, free[: len(more)]] = lowest - 1 - np.arange(len(more), dtype=np.float32)
        return Ranking(items, scores)


def top_items(scores: NDArray[np.float32], k: int) -> Ranking:
    """Return the k highest scores of each row, (rows, catalogue size); ties go to the lower index.

    Indexes 0 and 1 are not items. A catalogue with fewer than k items gives one column per item.
    """
    k = min(k, scores.shape[1] - FIRST_INDEX)
    values = scores.copy()
    values[:, :FIRST_INDEX] = -np.inf
    part = np.argpartition(-values, k - 1, axis=1)[:, :k]
    worst = np.take_along_axis(values, part, axis=1).min(axis=1, keepdims=True)
    items = np.empty((len(values), k), dtype=np.int32)
    for row in range(len(values)):
        # argpartition breaks ties arbitrarily: take all scores that reach the k-th, then sort by (score, index).
        reach = np.flatnonzero(values[row] >= worst[row])
        order = np.lexsort((reach, -values[row, reach]))
        items[row] = reach[order[:k]]
    return Ranking(items, np.take_along_axis(values, items.astype(np.int64), axis=1))


def top_pairs(
    row: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float64], rows: int, size: int, k: int
) -> Ranking:
    """Return the k best items of each row among scored pairs; the scores of an equal pair are added.

    Ties go to the lower index. Rows with fewer than k items are padded with index 0.

    Args:
        row: Row of each pair, (pairs,).
        item: Catalogue index of each pair.
        score: Its score, positive.
        rows: Number of rows.
        size: Catalogue size.
        k: Items per row.
    """
    pairs, place = np.unique(row * size + item, return_inverse=True)
    total = np.bincount(place, score, len(pairs))
    kept = pairs % size >= FIRST_INDEX
    return ranked_pairs(pairs[kept] // size, pairs[kept] % size, total[kept], rows, k)


def ranked_pairs(row: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[Any], rows: int, k: int) -> Ranking:
    """Return the k best items of each row; the pairs are different and sorted by row, then item."""
    order = best_first(row, score)
    count = np.bincount(row, minlength=rows)
    column = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    kept = column < k
    items, scores = np.zeros((rows, k), dtype=np.int32), np.full((rows, k), -np.inf, dtype=np.float32)
    items[row[kept], column[kept]] = item[order[kept]]
    scores[row[kept], column[kept]] = score[order[kept]]
    return Ranking(items, scores)


def top_sparse(scores: csr_array, k: int) -> Ranking:
    """Return the k highest positive scores of each row of a sparse matrix, (rows, catalogue size)."""
    row = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    kept = (scores.data > 0) & (scores.indices >= FIRST_INDEX)
    items, values = scores.indices[kept].astype(np.int64), scores.data[kept].astype(np.float64)
    return top_pairs(row[kept], items, values, scores.shape[0], scores.shape[1], k)


class Recommends(Protocol):
    """Anything with a `recommend` method: a model, a loaded artifact, a remapped predictor."""

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`."""


class Predicts(Recommends, Protocol):
    """Anything with `predict`, `recommend` and a `threshold`."""

    @property
    def threshold(self) -> float:
        """The probability from which it predicts a purchase."""

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """See `Model.predict`."""


_ROWS = 512  # rows per batch, which bounds memory at (512, catalogue) scores
TOP = 20


def rank_all(model: Recommends, inputs: Inputs, k: int = TOP) -> NDArray[np.int32]:
    """Return the k best catalogue indexes of each row, (rows, k)."""
    batches = (inputs.take(slice(begin, begin + _ROWS)) for begin in range(0, len(inputs), _ROWS))
    return Ranking.join([model.recommend(rows, k) for rows in batches]).items
