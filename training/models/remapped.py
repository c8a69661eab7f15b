"""A model trained with another catalogue, asked in the numbers of this one.

Catalogue indexes belong to one set of data. A model in service was trained with an older one: without translation its
histories and its ranking would mean other items.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.catalogue import UNKNOWN_INDEX, Catalogue
from training.models.artifact import Predictor
from training.models.contract import FloatArray
from training.rows.inputs import Inputs


class RemappedPredictor:
    """A predictor that reads and answers in the indexes of the catalogue `here`."""

    def __init__(self, predictor: Predictor, here: Catalogue) -> None:
        self._predictor = predictor
        there = predictor.catalogue.index_of(here.frame["item_id"].to_list())
        # (here.size,): index here -> index there; padding stays, what the model never saw is unknown to it.
        self._table: NDArray[np.int32] = np.concatenate([np.array([0, UNKNOWN_INDEX], dtype=np.int32), there])

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Predictor.predict`; an item that the model never saw scores -inf."""
        recent = replace(inputs.recent, item_index=self._table[inputs.recent.item_index])
        scores = self._predictor.predict(replace(inputs, recent=recent))
        return scores if self._predictor.task == "purchase" else scores[:, self._table]
