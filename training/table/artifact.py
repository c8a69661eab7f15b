"""A model for a flat table saved in a folder; the same model gives the same bytes.

model.json              name, target, threshold, columns
preprocessing.joblib    fitted on the training rows
estimator.joblib, or network.json and network.weights.h5
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer

from shoplens.errors import ModelError
from shoplens.files import read_json, write_json
from training.table.inputs import Column, Scores, to_inputs
from training.table.models import Learner, restore

_CARD, _PREPROCESSING = "model.json", "preprocessing.joblib"


@dataclass(frozen=True)
class TableModel:
    """A trained model with its preprocessing.

    Attributes:
        threshold: Lowest probability at which the decision is yes.
        example: Column -> typical value in the training rows, as JSON; not the row of any person.
    """

    name: str
    target: str
    threshold: float
    columns: tuple[Column, ...]
    preprocessing: ColumnTransformer
    learner: Learner
    example: dict[str, Any]

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the probability that the target is true, (rows,), for a frame with typed columns."""
        return self.learner.predict(np.asarray(self.preprocessing.transform(to_inputs(frame, self.columns))))

    def save(self, folder: Path) -> None:
        """Write the model to an existing folder."""
        joblib.dump(self.preprocessing, folder / _PREPROCESSING)
        self.learner.save(folder)
        card = {name: getattr(self, name) for name in ("name", "target", "threshold", "example")}
        write_json(folder / _CARD, card | {"columns": [asdict(column) for column in self.columns]})


def load(folder: Path) -> TableModel:
    """Load a model. Only load folders that we wrote: joblib files can execute code.

    Raises:
        ModelError: the folder does not contain a model.
    """
    try:
        card = read_json(folder / _CARD)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {folder}: cannot be read ({error}). Run `shoplens table`") from error
    card["columns"] = tuple(Column(**column) for column in card["columns"])
    preprocessing = joblib.load(folder / _PREPROCESSING)
    return TableModel(preprocessing=preprocessing, learner=restore(card["name"], folder), **card)
