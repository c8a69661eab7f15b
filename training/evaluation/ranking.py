"""Full ranking: every row ranks the whole catalogue, never a sample of it (Krichene & Rendle, 2020)."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FIRST_INDEX
from training.models.contract import FloatArray
from training.rows.inputs import Inputs


class Predicts(Protocol):
    """Anything that predicts: a model, an artifact, a translated one."""

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""


_CHUNK = 512  # rows at once: (512, catalogue) scores
TOP = 20


def top_items(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Return the k best indexes of each row, (rows, k), best first; of equal scores the lower index.

    A catalogue of fewer than k items gives as many columns as it has items: indexes 0 and 1 are none.
    """
    k = min(k, scores.shape[1] - FIRST_INDEX)
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    worst = np.take_along_axis(scores, part, axis=1).min(axis=1, keepdims=True)
    result = np.empty((len(scores), k), dtype=np.int32)
    for row in range(len(scores)):
        # argpartition picks arbitrarily among equals: take all that reach the k-th score, then sort by (score, index).
        reach = np.flatnonzero(scores[row] >= worst[row])
        order = np.lexsort((reach, -scores[row, reach]))
        result[row] = reach[order[:k]]
    return result


def rank_all(model: Predicts, inputs: Inputs, k: int = TOP) -> NDArray[np.int32]:
    """Return the k best catalogue indexes of every row, (rows, k)."""
    parts = []
    for begin in range(0, len(inputs), _CHUNK):
        rows = inputs.take(slice(begin, begin + _CHUNK))
        parts.append(top_items(model.predict(rows), k))
    return np.concatenate(parts)
