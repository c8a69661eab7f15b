"""A model trained with one catalogue, used with the item indexes of another.

Catalogue indexes are specific to a dataset. The model in service was trained on an older one; without remapping, its
inputs and its ranking would refer to the wrong items.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.catalogue import UNKNOWN_INDEX, Catalogue
from training.models.artifact import Predictor
from training.models.contract import FloatArray
from training.rows.inputs import Inputs


class RemappedPredictor:
    """A predictor whose inputs and scores use the indexes of `catalogue`."""

    def __init__(self, predictor: Predictor, catalogue: Catalogue) -> None:
        self._predictor = predictor
        own = predictor.catalogue.index_of(catalogue.frame["item_id"].to_list())
        # Index in `catalogue` -> index that the model uses, (catalogue.size,). Items new to the model map to unknown.
        self._table: NDArray[np.int32] = np.concatenate([np.array([0, UNKNOWN_INDEX], dtype=np.int32), own])

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Predictor.predict`; an item unknown to the model scores -inf."""
        recent = replace(inputs.recent, item_index=self._table[inputs.recent.item_index])
        scores = self._predictor.predict(replace(inputs, recent=recent))
        return scores if self._predictor.task == "purchase" else scores[:, self._table]
