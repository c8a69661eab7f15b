"""Full ranking: each row ranks the whole catalogue, never a sample of it (Krichene & Rendle, 2020)."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FIRST_INDEX
from training.models.contract import FloatArray
from training.rows.inputs import Inputs


class Predicts(Protocol):
    """Anything with a `predict` method: a model, a loaded artifact, a remapped predictor."""

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""


_CHUNK = 512  # rows per batch, which bounds memory at (512, catalogue) scores
TOP = 20


def top_items(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Return the indexes of the k highest scores of each row, (rows, k), best first; ties go to the lower index.

    A catalogue with fewer than k items gives one column per item; indexes 0 and 1 are not items.
    """
    k = min(k, scores.shape[1] - FIRST_INDEX)
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    worst = np.take_along_axis(scores, part, axis=1).min(axis=1, keepdims=True)
    result = np.empty((len(scores), k), dtype=np.int32)
    for row in range(len(scores)):
        # argpartition breaks ties arbitrarily: take all scores that reach the k-th, then sort by (score, index).
        reach = np.flatnonzero(scores[row] >= worst[row])
        order = np.lexsort((reach, -scores[row, reach]))
        result[row] = reach[order[:k]]
    return result


def rank_all(model: Predicts, inputs: Inputs, k: int = TOP) -> NDArray[np.int32]:
    """Return the k best catalogue indexes of each row, (rows, k)."""
    batches = (inputs.take(slice(begin, begin + _CHUNK)) for begin in range(0, len(inputs), _CHUNK))
    return np.concatenate([top_items(model.predict(rows), k) for rows in batches])
