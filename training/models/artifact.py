"""A model saved in a folder; the same model gives the same bytes.

model.json            name, task, recipe, feature names, and what `Model.export` returned
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
    def catalogue(self) -> Catalogue:
        """The items that it was trained with; their indexes are the columns of its scores."""
        return self.model.catalogue

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return probabilities, (rows,), or scores, (rows, catalogue size), with -inf at indexes 0 and 1.

        If `features.last_n` has changed since training, histories are cut or padded to the length the model expects.
        """
        chosen = inputs.select(self.feature_names)
        return self.model.predict(chosen if self.model.history is None else chosen.resize(self.model.history))


def save(model: Model, feature_names: tuple[str, ...], learned_until: np.datetime64, folder: Path) -> None:
    """Write the artifact of a trained model atomically."""
    with whole_folder(folder) as work:
        kept = model.export(work)
        model.catalogue.frame.write_parquet(work / _CATALOGUE)
        card = {"name": model.name, "task": model.recipe.task, "feature_names": list(feature_names), "kept": kept}
        recipe = _RECIPE.dump_python(model.recipe, mode="json", exclude={"task"})
        write_json(work / _CARD, card | {"learned_until": str(learned_until), "recipe": recipe})


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
    names, until = tuple(card["feature_names"]), np.datetime64(card["learned_until"], "us")
    return Predictor(card["name"], card["task"], names, until, model)


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
