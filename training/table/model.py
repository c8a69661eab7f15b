"""A model for a flat table: preprocessing and classifier, saved in a folder; the same model gives the same bytes.

model.json              name, target, threshold, columns
preprocessing.joblib    fitted by scikit-learn on the training rows
estimator.joblib        a scikit-learn classifier, or the weights of the network
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no types

from shoplens.errors import ModelError
from shoplens.files import read_json, write_json

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


MODEL_NAMES = ("base_rate", "logistic_regression", "decision_tree", "boosted_trees", "neural_network")
_LARGE = 10_000_000  # numbers in a matrix
_SKLEARN: dict[str, Callable[[int], Any]] = {
    "base_rate": lambda seed: DummyClassifier(strategy="prior"),
    "logistic_regression": lambda seed: LogisticRegression(max_iter=2_000, random_state=seed),
    "decision_tree": lambda seed: DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=seed),
    # for small tables: small steps, and early stopping on a tenth of the training rows
    "boosted_trees": lambda seed: HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=True,
        n_iter_no_change=15,
        random_state=seed,
    ),
}


_WIDTHS, _DROPOUT = (64, 32), 0.2
_EPOCHS, _PATIENCE, _BATCH, _RATE = 60, 6, 256, 2e-3
_EVERY = 10  # epochs between progress lines
_FAR = 8.0  # standard deviations; clipping keeps extreme inputs within the range seen in training


class Network:
    """A dense network with two hidden layers, as a scikit-learn classifier.

    Keras trains it, reproducibly from its seed; NumPy predicts, so that a service needs no TensorFlow.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.weights: list[NDArray[np.float32]] = []  # kernel and bias of each layer

    def fit(self, train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels]) -> "Network":
        """Train until the validation loss stops improving; keep the best weights."""
        import keras
        import tensorflow as tf

        from shoplens.stage import console

        def print_progress(epoch: int, logs: dict[str, float]) -> None:
            if epoch % _EVERY == 0:
                console.print(f"  epoch {epoch + 1}: loss {logs['loss']:.4f}, validation {logs['val_loss']:.4f}")

        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(self.seed)
        layers = [keras.Input((train[0].shape[1],))]  # (batch, inputs)
        for width in _WIDTHS:
            layers += [keras.layers.Dense(width, activation="relu"), keras.layers.Dropout(_DROPOUT)]
        model = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer=keras.optimizers.Adam(_RATE), loss="binary_crossentropy", jit_compile=False)
        stop = keras.callbacks.EarlyStopping("val_loss", patience=_PATIENCE, restore_best_weights=True)
        (x, y), held_out = ((_near(matrix), label.astype(np.float32)) for matrix, label in (train, validation))
        progress = keras.callbacks.LambdaCallback(on_epoch_end=print_progress)
        model.fit(
            x, y, _BATCH, _EPOCHS, validation_data=held_out, callbacks=[stop, progress], verbose=0
        )  # fmt: skip
        self.weights = model.get_weights()
        return self

    def predict_proba(self, matrix: Matrix) -> Scores:
        """Return the probabilities of false and true, (rows, 2)."""
        values = _near(matrix)
        for kernel, bias in zip(self.weights[:-2:2], self.weights[1:-2:2], strict=True):
            values = np.maximum(values @ kernel + bias, 0)
        true = expit(values @ self.weights[-2] + self.weights[-1])
        return np.concatenate([1 - true, true], axis=1)


def _near(matrix: Matrix) -> Scores:
    return np.clip(matrix, -_FAR, _FAR).astype(np.float32)


@cache
def _threads() -> Any:
    return ThreadpoolController()  # inspects the loaded libraries, which would be slow to repeat for each prediction


def _limited(matrix: Matrix) -> Any:
    """Limit OpenMP to one thread for a small matrix: contention made several threads ten times slower."""
    return _threads().limit(limits=1 if matrix.size < _LARGE else None, user_api="openmp")


def fit_classifier(name: str, train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels], seed: int) -> Any:
    """Train and return a classifier of MODEL_NAMES; only the network uses the validation rows, to stop early."""
    if name not in _SKLEARN:
        return Network(seed).fit(train, validation)
    with _limited(train[0]):
        return _SKLEARN[name](seed).fit(*train)


_CARD, _PREPROCESSING, _ESTIMATOR = "model.json", "preprocessing.joblib", "estimator.joblib"


@dataclass(frozen=True)
class TableModel:
    """A trained model with its preprocessing.

    Attributes:
        threshold: Lowest probability at which the decision is yes.
        estimator: A classifier with scikit-learn's `predict_proba`.
        example: Column -> typical value in the training rows, as JSON; not the row of any person.
    """

    name: str
    target: str
    threshold: float
    columns: tuple[Column, ...]
    preprocessing: ColumnTransformer
    estimator: Any
    example: dict[str, Any]

    def matrix(self, frame: pl.DataFrame) -> Matrix:
        """Return the preprocessed inputs, (rows, inputs), of a frame with typed columns."""
        return np.asarray(self.preprocessing.transform(to_inputs(frame, self.columns)))

    def score(self, matrix: Matrix) -> Scores:
        """Return the probability that the target is true, (rows,), for preprocessed inputs."""
        with _limited(matrix):
            return np.asarray(self.estimator.predict_proba(matrix)[:, 1], dtype=np.float32)

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the probability that the target is true, (rows,), for a frame with typed columns."""
        return self.score(self.matrix(frame))

    def save(self, folder: Path) -> None:
        """Write the model to an existing folder."""
        joblib.dump(self.preprocessing, folder / _PREPROCESSING)
        joblib.dump(self.estimator, folder / _ESTIMATOR)
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
    fitted = {
        name: joblib.load(folder / file)
        for name, file in (("preprocessing", _PREPROCESSING), ("estimator", _ESTIMATOR))
    }
    return TableModel(**card, **fitted)
