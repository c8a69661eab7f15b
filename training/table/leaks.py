"""Columns that give the target away, found on the training rows alone (docs/decisions/2026-11-25-leaks-in-a-table.md).

Two rules. A column whose being filled (a number: not zero; a boolean: true) says that the answer is yes is written
after the answer; and a column that alone orders rows it has not seen nearly perfectly is the answer under another name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

# Where it is filled, the answer "no" is at least a hundred times rarer than over all rows, and it is filled for at
# least half of the rows whose answer is "yes".
IMPURE, COVERED = 0.01, 0.5
_LEAST = 10  # rows: fewer agree by chance
# PageValues, the strongest honest column we have seen, reaches 0.86 and the best model of that whole table 0.93; an
# answer of which one row in a hundred is wrong still reaches 0.99.
AUC = 0.98
_STATES: dict[Any, tuple[str, str]] = {
    pl.Float64: ("not zero", "zero or missing"),
    pl.Boolean: ("true", "false or missing"),
}
_FOLDS = 3
_LEAVES = 32


@dataclass(frozen=True)
class Strength:
    """What a column says of the target alone.

    Attributes:
        roc_auc: Of a small tree on the column alone, on rows that it has not seen (3 folds of the training rows).
        leak: Why the column is a leak, if it is.
    """

    roc_auc: float
    leak: str | None


def present(values: pl.Series) -> NDArray[np.bool_]:
    """Return (rows,): whether a value is filled and, a number, not zero, a boolean, true."""
    if values.dtype == pl.Float64:
        return np.asarray((values.fill_null(0.0) != 0).to_numpy())
    return np.asarray((values.fill_null(False) if values.dtype == pl.Boolean else values.is_not_null()).to_numpy())


def gives_away(state: NDArray[np.bool_], label: NDArray[np.int8]) -> bool:
    """Say whether a state of a column says nearly exactly that the answer is yes.

    Args:
        state: (rows,) whether a row is in it.
        label: (rows,) 0 or 1.
    """
    if state.sum() < _LEAST or state.all():
        return False
    impurity = 1 - label[state].mean()
    return bool(impurity <= IMPURE * (1 - label.mean()) and state[label == 1].mean() >= COVERED)


def _presence_leak(values: pl.Series, label: NDArray[np.int8]) -> str | None:
    words = _STATES.get(values.dtype, ("filled", "missing"))
    there = present(values)
    for word, state in zip(words, (there, ~there), strict=True):
        if gives_away(state, label):
            yes, no = state[label == 1].mean(), state[label == 0].mean()
            return f"leaks the target: {word} in {yes:.1%} of the rows where it is true, in {no:.2%} where it is false"
    return None


def _coded(values: pl.Series, seen: NDArray[np.int64], label: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return (rows, 2) numbers for a tree, a missing value as one of its own; categories by their rate where seen."""
    if values.dtype == pl.String:
        known = pl.DataFrame({"value": values[seen], "label": label[seen]})
        rate = known.group_by("value").agg((pl.col("label").sum() + label[seen].mean()) / (pl.len() + 1))
        pairs = dict(rate.drop_nulls().iter_rows())
        numbers = values.replace_strict(pairs, default=float(label[seen].mean()), return_dtype=pl.Float64)
    elif isinstance(values.dtype, pl.Datetime):
        numbers = values.dt.epoch("us").cast(pl.Float64)
    else:
        numbers = values.cast(pl.Float64)
    missing = values.is_null().cast(pl.Float64)
    return np.column_stack([numbers.fill_null(0.0).to_numpy(), missing.to_numpy()])


def single_auc(values: pl.Series, label: NDArray[np.int8], seed: int, people: NDArray[np.int64] | None = None) -> float:
    """Return the ROC AUC of a column alone, the mean over folds that the small tree has not seen."""
    fold = StratifiedKFold if people is None else StratifiedGroupKFold
    found = []
    for seen, unseen in fold(_FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(label)), label, people):
        numbers = _coded(values, seen, label)
        least = max(5, len(seen) // 500)
        tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, min_samples_leaf=least, random_state=seed)
        score = tree.fit(numbers[seen], label[seen]).predict_proba(numbers[unseen])[:, 1]
        found.append(roc_auc_score(label[unseen], score))
    return float(np.mean(found))


def strength(
    values: pl.Series, label: NDArray[np.int8], seed: int, people: NDArray[np.int64] | None = None
) -> Strength:
    """Return what a column of the training rows says alone.

    Args:
        values: (rows,) typed.
        label: (rows,) 0 or 1.
        seed: Of the folds.
        people: (rows,) equal for rows of one person, which are then in one fold.
    """
    auc = single_auc(values, label, seed, people)
    leak = _presence_leak(values, label)
    if leak is None and auc >= AUC:
        leak = f"leaks the target: alone it reaches ROC AUC {auc:.3f} on rows not seen (from {AUC} on it is dropped)"
    return Strength(auc, leak)
