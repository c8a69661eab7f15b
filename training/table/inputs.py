"""Conversion of typed rows to the input matrix of the models, for a whole table or a single request.

Medians, scales and vocabularies are fitted by scikit-learn on the training rows only and saved with the model.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Kind = Literal["number", "boolean", "category", "time"]
Matrix = NDArray[np.float64]
Labels = NDArray[np.int8]
Scores = NDArray[np.float32]
_MISSING = "(missing)"
_RARE = 10  # categories with fewer training rows share one column
_MOST = 50  # columns per category


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


def _number_names(column: Column) -> tuple[str, ...]:
    """Return the names of a column's numeric inputs: a timestamp never recurs, but its hour and weekday do."""
    return (f"{column.name}: hour", f"{column.name}: weekday") if column.kind == "time" else (column.name,)


def to_inputs(frame: pl.DataFrame, columns: tuple[Column, ...]) -> "pd.DataFrame":
    """Return the inputs, (rows, inputs): numbers as float64 with NaN, categories as text with "(missing)"."""
    found: dict[str, Any] = {}
    for column in columns:
        values = frame[column.name]
        if column.kind == "category":
            found[column.name] = values.fill_null(_MISSING).to_numpy().astype(object)
        elif column.kind == "time":
            hour = values.dt.hour() + values.dt.minute() / 60
            for name, part in zip(_number_names(column), (hour, values.dt.weekday()), strict=True):
                found[name] = part.cast(pl.Float64).to_numpy()
        else:
            found[column.name] = values.cast(pl.Float64).to_numpy()
    return pd.DataFrame(found)


def preprocessing(columns: tuple[Column, ...]) -> ColumnTransformer:
    """Return the unfitted preprocessing: median imputation, missing flags and standardization; one-hot encoding.

    A category that is unknown or rare in the training rows is encoded as rare, or as all zeros if none is rare.
    """
    numbers = [name for column in columns if column.kind != "category" for name in _number_names(column)]
    categories = [column.name for column in columns if column.kind == "category"]
    median = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    scaled = Pipeline([("missing", median), ("scale", StandardScaler())])
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=_RARE, max_categories=_MOST, sparse_output=False
    )
    return ColumnTransformer([("numbers", scaled, numbers), ("categories", one_hot, categories)])


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
