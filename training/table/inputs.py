"""From typed rows to the matrix of the models: the same function for a table and for one row of a request.

What is fitted (medians, scales, vocabularies) is fitted on training rows only, by scikit-learn, and kept with the
model.
"""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.table.kinds import Column

_MISSING = "(missing)"
_RARE = 10  # training rows: a category that is seen less often shares a column with the other rare ones
_MOST = 50  # columns of one category


def _numbers(column: Column) -> tuple[str, ...]:
    """Return the numbers that a column is turned into; a moment itself never comes again, its hour and weekday do."""
    return (f"{column.name}: hour", f"{column.name}: weekday") if column.kind == "time" else (column.name,)


def to_inputs(frame: pl.DataFrame, columns: tuple[Column, ...]) -> "pd.DataFrame":
    """Return (rows, inputs): numbers as float64 with NaN, categories as text with "(missing)"."""
    found: dict[str, Any] = {}
    for column in columns:
        values = frame[column.name]
        if column.kind == "category":
            found[column.name] = values.fill_null(_MISSING).to_numpy().astype(object)
        elif column.kind == "time":
            hour = values.dt.hour() + values.dt.minute() / 60
            for name, part in zip(_numbers(column), (hour, values.dt.weekday()), strict=True):
                found[name] = part.cast(pl.Float64).to_numpy()
        else:
            found[column.name] = values.cast(pl.Float64).to_numpy()
    return pd.DataFrame(found)


def preprocessing(columns: tuple[Column, ...]) -> ColumnTransformer:
    """Return the unfitted preprocessing: median and a missing flag, standardization; one column a category.

    A category that training rows do not have, or hardly, counts as rare; where there are no rare ones, as none.
    """
    numbers = [name for column in columns if column.kind != "category" for name in _numbers(column)]
    categories = [column.name for column in columns if column.kind == "category"]
    scaled = Pipeline(
        [
            ("missing", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
            ("scale", StandardScaler()),
        ]
    )
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=_RARE,
        max_categories=_MOST,
        sparse_output=False,
        dtype=np.float64,
    )
    return ColumnTransformer([("numbers", scaled, numbers), ("categories", one_hot, categories)])


def typical_row(frame: pl.DataFrame, columns: tuple[Column, ...]) -> dict[str, Any]:
    """Return a typical value of every column as JSON: a median, the commonest value, the latest moment."""
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
