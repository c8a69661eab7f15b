"""A model saved in a folder; the same model gives the same bytes.

model.json            name, task, recipe, feature names, threshold, and what `Model.export` returned
catalogue.parquet     the items that the model was trained with
weights               in files of the model's own
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from features.catalogue import UNKNOWN_INDEX, Catalogue
from shoplens.errors import ModelError
from shoplens.files import read_json, whole_folder, write_json
from training.models.contract import FloatArray, Model, Recipe, model_class
from training.models.ranking import Ranking
from training.rows import Inputs, Task

_CARD = "model.json"
_CATALOGUE = "catalogue.parquet"
_RECIPE = TypeAdapter(Recipe)


@dataclass(frozen=True)
class Predictor:
    """A trained model, ready to predict.

    Attributes:
        feature_names: The tabular features that it was trained on, in order.
        learned_until: Rows before this time (UTC) may have been used for training and must not be used to evaluate it.
    """

    name: str
    task: Task
    feature_names: tuple[str, ...]
    learned_until: np.datetime64
    model: Model

    @property
    def threshold(self) -> float:
        """The probability from which it predicts a purchase."""
        return self.model.threshold

    @property
    def catalogue(self) -> Catalogue:
        """The items that it was trained with; their indexes are the columns of its scores."""
        return self.model.catalogue

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return self.model.predict(inputs.select(self.feature_names))

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`."""
        return self.model.recommend(inputs.select(self.feature_names), k)


def save(model: Model, feature_names: tuple[str, ...], learned_until: np.datetime64, folder: Path) -> None:
    """Write the artifact of a trained model atomically."""
    with whole_folder(folder) as work:
        kept = model.export(work)
        model.catalogue.frame.write_parquet(work / _CATALOGUE)
        card = {"name": model.name, "task": model.recipe.task, "feature_names": list(feature_names), "kept": kept}
        recipe = _RECIPE.dump_python(model.recipe, mode="json", exclude={"task"})
        more = {"threshold": model.threshold, "learned_until": str(learned_until), "recipe": recipe}
        write_json(work / _CARD, card | more)


def load(folder: Path) -> Predictor:
    """Load an artifact. TensorFlow is imported only for a deep model.

    Raises:
        ModelError: the folder does not contain an artifact.
    """
    try:
        card = read_json(folder / _CARD)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {folder}: cannot be read ({error}). Run the training stage") from error
    recipe = _RECIPE.validate_python({"task": card["task"], **card["recipe"]})
    model = model_class(card["name"])(recipe, Catalogue.load(folder / _CATALOGUE))
    model.restore(folder, card["kept"])
    model.threshold = float(card["threshold"])
    names, until = tuple(card["feature_names"]), np.datetime64(card["learned_until"], "us")
    return Predictor(card["name"], card["task"], names, until, model)


class RemappedPredictor:
    """A predictor whose inputs and rankings use the indexes of `catalogue`."""

    def __init__(self, predictor: Predictor, catalogue: Catalogue) -> None:
        self._predictor = predictor
        own, theirs = catalogue.frame["item_id"].to_list(), predictor.catalogue.frame["item_id"].to_list()
        none = np.array([0, UNKNOWN_INDEX], dtype=np.int32)
        # Index in `catalogue` -> index that the model uses, and back. An item that the other lacks maps to unknown.
        self._inward: NDArray[np.int32] = np.concatenate([none, predictor.catalogue.index_of(own)])
        self._outward: NDArray[np.int32] = np.concatenate([none, catalogue.index_of(theirs)])

    @property
    def threshold(self) -> float:
        """See `Predictor.threshold`."""
        return self._predictor.threshold

    def _remap(self, inputs: Inputs) -> Inputs:
        log = inputs.history.log
        moved = replace(log, item_index=self._inward[log.item_index])
        items = None if inputs.items is None else inputs.items.moved(self._outward)
        return replace(inputs, history=replace(inputs.history, log=moved), items=items)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return self._predictor.predict(self._remap(inputs))

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`; an item that `catalogue` lacks keeps its rank and is shown as unknown."""
        found = self._predictor.recommend(self._remap(inputs), k)
        return Ranking(self._outward[found.items], found.scores)
