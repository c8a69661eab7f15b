"""Predicts from content which items go together, so that an item without any event can be recommended.

The similarity S of items in the log is regressed on their content vectors C, as c_i' M c_j, by ridge regression towards
a prior P: minimize ||S - C M C'||^2 + lambda ||M - P||^2. With the eigenvectors Q and eigenvalues e of C'C,

    M = P + Q ((Q' R Q) / (e e' + lambda)) Q',   R = C'S C - C'C P C'C

(kernel ridge regression on pairs; Stock et al., "A comparative study of pairwise learning methods based on kernel ridge
regression", Neural Computation 2018). Without data, the prior decides: the similarity of words and prices, or the map
of another shop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from features.histories import Histories
from features.items import NAMES as ITEM_NAMES
from features.items import ItemTables

Floats = NDArray[np.float32]
_LATEST = 8  # latest events of the history that are used
_RIDGE = 30.0
_PRIOR = 0.1  # the similarity of two items with the same content, before any event is counted
_EVENTS = ITEM_NAMES.index("item_events_91d")  # decays so slowly that every event stays above 0


def latest_items(history: Histories, size: int) -> csr_array:
    """Return the latest items of each row, (rows, size): the latest event weighs 1, the one before it 1/2, then 1/3."""
    latest = history.last(_LATEST)
    row, place = latest.flat()
    item = latest.log.item_index[place].astype(np.int64)
    weight = (1.0 / (latest.end[row] - place)).astype(np.float32)
    return csr_array((weight, (row, item)), shape=(len(history), size))


def has_events(items: ItemTables, table: int) -> NDArray[np.bool_]:
    """Return whether each catalogue index has an event as of a table, (size,)."""
    return np.asarray(items.values[table, :, _EVENTS] > 0)


@dataclass(frozen=True)
class Pool:
    """Items to choose from, by content.

    Attributes:
        content: The distinct contents, (contents,).
        items: The items of each content, ascending.
    """

    content: NDArray[np.int32]
    items: list[NDArray[np.int64]]


@dataclass(frozen=True)
class ContentMap:
    """A map from the content of the latest items to the content of those that go with them.

    Attributes:
        place: Where the vector of each catalogue index is, int32 (size,); several items may share one.
        vectors: Content vectors, float32 (contents, d), with values that half precision can hold.
        matrix: M of the module's equation, float32 (d, d).
    """

    place: NDArray[np.int32]
    vectors: Floats
    matrix: Floats

    @classmethod
    def fit(
        cls, content: tuple[NDArray[np.int32], Floats], similar: csr_array, prior: Floats | None = None
    ) -> "ContentMap":
        """Learn the map.

        Args:
            content: Places and vectors, see `training.models.content_vectors.content_vectors`.
            similar: The similarity of each pair of items, (size, size); items without any are left out.
            prior: M of another shop, (d, d); the default is P = I / 10, the similarity of words and prices.
        """
        place, vectors = content
        towards = (_PRIOR * np.eye(vectors.shape[1]) if prior is None else prior).astype(np.float64)
        pairs = similar.tocoo()
        shape = (len(vectors), len(vectors))
        between = coo_array((pairs.data, (place[pairs.coords[0]], place[pairs.coords[1]])), shape=shape).tocsr()
        counted = place[np.unique(pairs.coords[0])]
        root = vectors * np.sqrt(np.bincount(counted, minlength=len(vectors)))[:, None]
        square = (root.T @ root).astype(np.float64)
        residual = (vectors.T @ (between @ vectors)).astype(np.float64) - square @ towards @ square
        values, q = np.linalg.eigh(square)
        learned = q @ ((q.T @ residual @ q) / (np.outer(values, values) + _RIDGE)) @ q.T
        return cls(place, vectors, (towards + learned).astype(np.float32))

    def queries(self, history: Histories) -> Floats:
        """Return the content that goes with the latest items of each row, (rows, d); 0 for a row without items."""
        latest = latest_items(history, len(self.place))
        shape = (len(history), len(self.vectors))
        own = csr_array((latest.data, self.place[latest.indices], latest.indptr), shape=shape)
        total = np.maximum(np.asarray(own.sum(axis=1)), 1e-9).reshape(-1, 1)
        return np.asarray((own @ self.vectors) / total @ self.matrix, dtype=np.float32)

    def score(self, queries: Floats, row: NDArray[np.int64], item: NDArray[np.int64]) -> Floats:
        """Return the score of each pair of a row and an item, (pairs,)."""
        return np.asarray(np.einsum("pd,pd->p", queries[row], self.vectors[self.place[item]]), dtype=np.float32)

    def scores(self, queries: Floats) -> Floats:
        """Return the score of every item for each row, (rows, size)."""
        return np.asarray((queries @ self.vectors.T)[:, self.place], dtype=np.float32)

    def pool(self, items: NDArray[np.int64]) -> Pool:
        """Group items, ascending catalogue indexes, by content."""
        content, group, count = np.unique(self.place[items], return_inverse=True, return_counts=True)
        return Pool(content, np.split(items[np.argsort(group, kind="stable")], np.cumsum(count)[:-1]))

    def best(self, queries: Floats, pool: Pool, k: int) -> NDArray[np.int64]:
        """Return the k best items of a pool for each row, (rows, k), best first; items of equal content by index.

        Entries are 0 where the pool has fewer items, and for a row whose query is 0.
        """
        found = np.zeros((len(queries), k), dtype=np.int64)
        if not len(pool.content) or not k:
            return found
        scores = queries @ self.vectors[pool.content].T
        top = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        order = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1), axis=1)
        for row in np.flatnonzero(queries.any(axis=1)):
            items = np.concatenate([pool.items[one] for one in order[row]])[:k]
            found[row, : len(items)] = items
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `of_arrays` needs, by name."""
        return {"place": self.place, "vectors": self.vectors.astype(np.float16), "matrix": self.matrix}

    @classmethod
    def of_arrays(cls, kept: Mapping[str, NDArray[Any]]) -> "ContentMap":
        """Restore a map from the result of `arrays`."""
        return cls(kept["place"], kept["vectors"].astype(np.float32), kept["matrix"])
