"""Items that follow other items: sequential rules and cosine similarity, learned by counting.

A rule i -> j has the weight 1/d for every time that j came d events after i, for d up to a window, over the count of i
(Ludewig & Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018, section 2.3.2). The similarity
of i and j sums the same weights in both directions over sqrt(count(i) * count(j)).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from features.histories import Histories, UserLog
from training.models.content import ContentMap, latest_items
from training.models.ranking import best_first

WINDOW = 5  # events that a rule may span
_KEPT = 100  # rules per item
_CONTENT = "content_"  # before the names of the arrays of a ContentMap in a file
_BLOCK = 4_000_000  # events counted at once, to bound memory


@dataclass(frozen=True)
class Neighbours:
    """The strongest rules and similarities of each item, and what they say about content.

    Attributes:
        rules: (size, size), row i holds the rules i -> j.
        similar: (size, size), row i holds the items similar to i.
        content: What goes together by content, learned from `similar`; None where nothing uses it.
    """

    rules: csr_array
    similar: csr_array
    content: ContentMap | None = None

    @classmethod
    def count(cls, log: UserLog, size: int, until: np.datetime64) -> "Neighbours":
        """Count the rules among events known before `until`, in each user's own order.

        Consecutive events with the same item count once, so that nothing follows itself.
        """
        known = np.flatnonzero((np.asarray(log.events.item_index) > 1) & (np.asarray(log.events.known_time) < until))
        user = np.searchsorted(np.sort(log.users["begin"].to_numpy()), known, side="right")
        item = np.asarray(log.events.item_index[known])
        fresh = np.append(True, (user[1:] != user[:-1]) | (item[1:] != item[:-1]))[: len(item)]
        user, item = user[fresh], item[fresh]
        total = csr_array((size, size), dtype=np.float32)
        for begin in range(0, len(item), _BLOCK):
            part = slice(begin, begin + _BLOCK)  # a pair across two blocks is lost
            total = total + _pairs(user[part], item[part], size)
        events = np.maximum(np.bincount(item, minlength=size).astype(np.float32), 1)
        both = (total + total.T).tocsr()
        rules, similar = total.copy(), both
        rules.data /= np.repeat(events, np.diff(rules.indptr))
        similar.data /= np.sqrt(np.repeat(events, np.diff(similar.indptr)) * events[similar.indices])
        return cls(_strongest(rules), _strongest(similar))

    def save(self, path: Path) -> None:
        """Write the matrices; the same matrices give the same bytes."""
        arrays = {
            f"{name}_{part}": getattr(getattr(self, name), part)
            for name in ("rules", "similar")
            for part in ("data", "indices", "indptr")
        }
        if self.content is not None:
            arrays |= {f"{_CONTENT}{name}": one for name, one in self.content.arrays().items()}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Neighbours":
        """Read what `save` wrote."""
        with np.load(path) as kept:

            def matrix(name: str) -> csr_array:
                data, indices, indptr = (kept[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
                return csr_array((data, indices, indptr), shape=(len(indptr) - 1, len(indptr) - 1))

            found = {name.removeprefix(_CONTENT): kept[name] for name in kept.files if name.startswith(_CONTENT)}
            return cls(matrix("rules"), matrix("similar"), ContentMap.of_arrays(found) if found else None)

    def follow(self, history: Histories) -> tuple[csr_array, csr_array]:
        """Return the scores of the items that follow the latest events of each row, and that are similar to them.

        Events weigh as in `latest_items`.

        Returns:
            Two sparse matrices, (rows, size).
        """
        start = latest_items(history, self.rules.shape[0])
        return (start @ self.rules).tocsr(), (start @ self.similar).tocsr()


def _pairs(user: NDArray[np.int64], item: NDArray[np.int32], size: int) -> csr_array:
    """Return the summed weights of the pairs within the window, (size, size)."""
    ones, twos, weights = [], [], []
    for distance in range(1, WINDOW + 1):
        same = (user[distance:] == user[:-distance]) & (item[distance:] != item[:-distance])
        ones.append(item[:-distance][same])
        twos.append(item[distance:][same])
        weights.append(np.full(len(ones[-1]), 1 / distance, dtype=np.float32))
    pairs = (np.concatenate(weights), (np.concatenate(ones), np.concatenate(twos)))
    return coo_array(pairs, shape=(size, size)).tocsr()


def _strongest(matrix: csr_array) -> csr_array:
    """Keep the largest values of each row; ties go to the lower index."""
    matrix.sort_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = best_first(row, matrix.data)
    rank = np.arange(len(row)) - matrix.indptr[row]
    kept = order[rank < _KEPT]
    return csr_array((matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape)
