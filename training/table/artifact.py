"""A model of a flat table in a folder: byte-identical for the same model.

model.json              name, target, threshold, columns
preprocessing.joblib    fitted on training rows
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
from training.table.inputs import to_inputs
from training.table.kinds import Column
from training.table.learner import Learner, Scores
from training.table.models import restore

_CARD, _PREPROCESSING = "model.json", "preprocessing.joblib"


@dataclass(frozen=True)
class TableModel:
    """A trained model with all it needs.

    Attributes:
        threshold: Probability from which the decision is yes.
        example: Column -> a typical value of the training rows, as JSON: nobody's row.
    """

    name: str
    target: str
    threshold: float
    columns: tuple[Column, ...]
    preprocessing: ColumnTransformer
    learner: Learner
    example: dict[str, Any]

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return (rows,) probabilities that the target is true; the frame has the typed columns."""
        return self.learner.predict(np.asarray(self.preprocessing.transform(to_inputs(frame, self.columns))))

    def save(self, folder: Path) -> None:
        """Write it into an existing folder."""
        joblib.dump(self.preprocessing, folder / _PREPROCESSING)
        self.learner.save(folder)
        columns = [asdict(column) for column in self.columns]
        card = {
            "name": self.name,
            "target": self.target,
            "threshold": self.threshold,
            "columns": columns,
            "example": self.example,
        }
        write_json(folder / _CARD, card)


def load(folder: Path) -> TableModel:
    """Read a model; only ever from a folder that we wrote: joblib can run code.

    Raises:
        ModelError: the folder holds none.
    """
    try:
        card = read_json(folder / _CARD)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {folder}: cannot be read ({error}); run `shoplens table`") from error
    columns = tuple(Column(**column) for column in card["columns"])
    preprocessing = joblib.load(folder / _PREPROCESSING)
    learner = restore(card["name"], folder)
    return TableModel(card["name"], card["target"], card["threshold"], columns, preprocessing, learner, card["example"])
