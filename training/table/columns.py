"""The columns of a flat table, and a model of them: rows become features that every purchase model can read.

model.json ...        the artifact of the model, see `training.models.artifact`
columns.json          target, columns, a typical row
encoder.joblib        skrub's TableVectorizer, fitted on the training rows
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder
from skrub import StringEncoder, TableVectorizer

from features.catalogue import COLUMNS, Catalogue
from features.histories import Histories, UserLog
from shoplens.errors import ModelError
from shoplens.files import read_json, write_json
from training.models import artifact
from training.models.artifact import Predictor
from training.models.contract import Model
from training.rows import Inputs, RowSet

Kind = Literal["number", "boolean", "category", "time"]
Scores = NDArray[np.float32]
NO_ITEMS = Catalogue(pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String)))  # a table has no items
NO_TIME = np.datetime64("NaT", "us")
_RARE = 10  # categories with fewer training rows share one feature
_TEXT = 40  # a column with more categories is read as text, by character n-grams
_CARD, _ENCODER = "columns.json", "encoder.joblib"


@dataclass(frozen=True)
class Column:
    """A column and its kind.

    Attributes:
        nullable: Whether it has missing values in the table.
        unreadable: Number of cells that cannot be parsed as this kind; they count as missing.
    """

    name: str
    kind: Kind
    nullable: bool
    unreadable: int = 0


def _prepared(frame: pl.DataFrame, columns: tuple[Column, ...]) -> pl.DataFrame:
    """Return the columns as numbers and text; a time, which never recurs, becomes its hour and weekday."""
    found: list[pl.Expr] = []
    for column in columns:
        value = pl.col(column.name)
        if column.kind == "time":
            hour = value.dt.hour() + value.dt.minute() / 60
            found += [hour.alias(f"{column.name}: hour"), value.dt.weekday().alias(f"{column.name}: weekday")]
        else:
            found.append(value.cast(pl.String if column.kind == "category" else pl.Float32))
    return frame.select(found)


@dataclass(frozen=True)
class Encoder:
    """Turns typed columns into features: numbers unchanged, categories one-hot, text by n-grams (TF-IDF and SVD)."""

    columns: tuple[Column, ...]
    vectorizer: TableVectorizer

    @classmethod
    def fit(cls, frame: pl.DataFrame, columns: tuple[Column, ...], seed: int) -> "Encoder":
        """Fit on training rows; a new category later counts as a rare one, or as none if no category is rare."""
        one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=_RARE, sparse_output=False)
        vectorizer = TableVectorizer(
            cardinality_threshold=_TEXT,
            low_cardinality=one_hot,
            high_cardinality=StringEncoder(random_state=seed),
            numeric="passthrough",
        )
        return cls(columns, vectorizer.fit(_prepared(frame, columns)))

    def inputs(self, frame: pl.DataFrame) -> Inputs:
        """Return the features of typed rows, without histories."""
        found = self.vectorizer.transform(_prepared(frame, self.columns))
        matrix = found.to_numpy().astype(np.float32).reshape(len(frame), found.width)
        return Inputs(tuple(found.columns), matrix, Histories.none(len(frame)), np.full(len(frame), NO_TIME))

    def rows(self, frame: pl.DataFrame, label: NDArray[Any], group: NDArray[Any]) -> RowSet:
        """Return rows with labels, (rows,); intervals resample the groups, (rows,)."""
        inputs = self.inputs(frame)
        log = UserLog.without_events()
        return RowSet("purchase", group.astype(str), inputs, label.astype(np.float32), log=log)


def typical_row(frame: pl.DataFrame, columns: tuple[Column, ...]) -> dict[str, Any]:
    """Return a typical value of each column as JSON: the median, the most common value, or the latest time."""
    row: dict[str, Any] = {}
    for column in columns:
        values = frame[column.name].drop_nulls()
        if values.is_empty():
            row[column.name] = None
        elif column.kind == "number":
            middle = round(float(values.median()), 6)  # type: ignore[arg-type]  # numbers
            row[column.name] = int(middle) if middle.is_integer() else middle
        elif column.kind == "time":
            row[column.name] = values.max().isoformat()  # type: ignore[union-attr]  # moments
        else:
            row[column.name] = values.mode().sort()[0]
    return row


@dataclass(frozen=True)
class TableModel:
    """A trained model with the encoder of its columns.

    Attributes:
        example: Column -> typical value in the training rows, as JSON; not any person's row.
    """

    target: str
    encoder: Encoder
    model: Model | Predictor
    example: dict[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the model reads."""
        return self.encoder.columns

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the probability that the target is true, (rows,), for a frame with typed columns."""
        return self.model.predict(self.encoder.inputs(frame))

    def save(self, folder: Path) -> None:
        """Write a model that has just been trained to a folder, which it replaces."""
        if isinstance(self.model, Predictor):
            raise ModelError("model: must be one that was trained; this one was loaded. Copy its folder")
        names = tuple(self.encoder.vectorizer.get_feature_names_out())
        artifact.save(self.model, names, NO_TIME, folder)
        joblib.dump(self.encoder.vectorizer, folder / _ENCODER)
        columns = [asdict(column) for column in self.columns]
        write_json(folder / _CARD, {"target": self.target, "example": self.example, "columns": columns})


def load(folder: Path) -> TableModel:
    """Load a model. Only load folders that we wrote: joblib files can execute code.

    Raises:
        ModelError: the folder does not contain a model.
    """
    try:
        card = read_json(folder / _CARD)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {folder}: cannot be read ({error}). Run `shoplens table`") from error
    encoder = Encoder(tuple(Column(**column) for column in card["columns"]), joblib.load(folder / _ENCODER))
    return TableModel(card["target"], encoder, artifact.load(folder), card["example"])
