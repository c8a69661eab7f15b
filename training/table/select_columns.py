"""Column selection: drop constants, row identifiers and leaks, as determined on the training rows.

A leak reveals the target (docs/decisions/2026-11-25-leaks-in-a-table.md). If a column has a value (a number: is not
zero; a boolean: is true) almost only when the target is true, it was recorded after the outcome. If a column on its own
ranks unseen rows almost perfectly, it is the target under another name.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from shoplens.errors import BrokenTableError, SettingsError
from shoplens.stage import console
from training.table.clean import Cleaned
from training.table.model import Column
from training.table.split import Split

# Among rows with a value, a false target is at least a hundred times rarer than overall, and at least half of the rows
# with a true target have a value.
IMPURE, COVERED = 0.01, 0.5
_FEWEST = 10  # fewer rows may agree by chance
# PageValues, the strongest legitimate column that we have seen, reaches 0.86, and the best model on its table 0.93. A
# copy of the target with one wrong row in a hundred still reaches 0.99.
AUC = 0.98
_STATES: dict[Any, tuple[str, str]] = {
    pl.Float64: ("not zero", "zero or missing"),
    pl.Boolean: ("true", "false or missing"),
}
_FOLDS = 3
_LEAVES = 32


@dataclass(frozen=True)
class Strength:
    """How well a column predicts the target on its own.

    Attributes:
        roc_auc: ROC AUC of a small tree on this column, cross-validated on the training rows (3 folds).
        leak: Why the column is a leak, None if it is not.
    """

    roc_auc: float
    leak: str | None


def _present(values: pl.Series) -> NDArray[np.bool_]:
    """Return whether each value is present and, if a number, not zero, and if a boolean, true, (rows,)."""
    if values.dtype == pl.Float64:
        return np.asarray((values.fill_null(0.0) != 0).to_numpy())
    return np.asarray((values.fill_null(False) if values.dtype == pl.Boolean else values.is_not_null()).to_numpy())


def reveals_target(state: NDArray[np.bool_], label: NDArray[np.int8]) -> bool:
    """Return whether a state of a column, (rows,), implies almost without exception that the label, (rows,), is 1."""
    if state.sum() < _FEWEST or state.all():
        return False
    impurity = 1 - label[state].mean()
    return bool(impurity <= IMPURE * (1 - label.mean()) and state[label == 1].mean() >= COVERED)


def _presence_leak(values: pl.Series, label: NDArray[np.int8]) -> str | None:
    words = _STATES.get(values.dtype, ("filled", "missing"))
    there = _present(values)
    for word, state in zip(words, (there, ~there), strict=True):
        if reveals_target(state, label):
            yes, no = state[label == 1].mean(), state[label == 0].mean()
            return f"leaks the target: {word} in {yes:.1%} of the rows with a true target, {no:.2%} with a false one"
    return None


def _coded(values: pl.Series, seen: NDArray[np.int64], label: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the inputs of the tree, (rows, 2): the value (a category as its rate in `seen`) and a missing flag."""
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


def _single_auc(values: pl.Series, label: NDArray[np.int8], seed: int, people: NDArray[np.int64] | None) -> float:
    """Return the cross-validated ROC AUC of a small tree on this column alone."""
    fold = StratifiedKFold if people is None else StratifiedGroupKFold
    found = []
    for seen, unseen in fold(_FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(label)), label, people):
        numbers = _coded(values, seen, label)
        least = max(5, len(seen) // 500)
        tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, min_samples_leaf=least, random_state=seed)
        score = tree.fit(numbers[seen], label[seen]).predict_proba(numbers[unseen])[:, 1]
        found.append(roc_auc_score(label[unseen], score))
    return float(np.mean(found))


def strength(values: pl.Series, label: NDArray[np.int8], seed: int, people: NDArray[np.int64] | None) -> Strength:
    """Return how well a column predicts the target on its own; rows of one person are kept in one fold."""
    auc = _single_auc(values, label, seed, people)
    leak = _presence_leak(values, label)
    if leak is None and auc >= AUC:
        leak = f"leaks the target: on its own it reaches ROC AUC {auc:.3f} on unseen rows (the limit is {AUC})"
    return Strength(auc, leak)


_ID_NAME = re.compile(r"(?i:(^|[_\s-])(id|uuid|guid)$)|[a-z](Id|ID)$")
_ID_SHARE = 0.5  # a column with a larger share of distinct values identifies rows: its values do not recur
_LEAST = 20  # with fewer known values, the share is not meaningful


@dataclass(frozen=True)
class Selection:
    """The columns that the models use.

    Attributes:
        columns: The inputs, in the order of the file.
        dropped: Column -> why it was dropped.
        kept: Column -> why it would have been dropped without `--keep`.
        strengths: Column -> its predictive strength on its own.
    """

    columns: tuple[Column, ...]
    dropped: dict[str, str]
    kept: dict[str, str]
    strengths: dict[str, Strength]


def _is_running_number(values: NDArray[np.float64]) -> bool:
    """Return whether distinct numbers are nearly consecutive integers; a split of 60% leaves gaps."""
    return bool((values == np.floor(values)).all() and values.max() - values.min() <= 2 * len(values))


def reason_to_drop(column: Column, values: pl.Series) -> str | None:
    """Return why a column cannot predict new rows (it is constant or identifies rows), None if it can."""
    if values.n_unique() == 1:
        return "constant: " + ("always missing" if values[0] is None else "the same value in every row")
    filled = values.drop_nulls()
    if column.kind not in ("category", "number") or len(filled) < _LEAST:
        return None
    distinct = filled.n_unique()
    named = _ID_NAME.search(column.name) if column.kind == "number" else True
    if distinct > _ID_SHARE * len(filled) and named:
        return f"identifies rows: {distinct:,} distinct values in {len(filled):,} rows with a value"
    if column.kind == "number" and distinct == len(filled) and _is_running_number(filled.to_numpy()):
        return f"identifies rows: {distinct:,} consecutive whole numbers, each once"
    return None


def select_columns(cleaned: Cleaned, divided: Split, keep: frozenset[str], seed: int) -> Selection:
    """Select the input columns by the training rows, dropping none of `keep`.

    Raises:
        SettingsError: `keep` names a column that does not exist.
        BrokenTableError: no column is left.
    """
    columns, train = cleaned.columns, divided.where("train")
    unknown = sorted(keep - {one.name for one in columns})
    if unknown:
        raise SettingsError(
            f"--keep: must name input columns of the table; received {', '.join(map(repr, unknown))}. "
            f"Choose from {', '.join(one.name for one in columns)}"
        )
    people = None if cleaned.person is None else divided.people[train]
    reasons: dict[str, str] = {}
    strengths: dict[str, Strength] = {}
    for column in columns:
        values = cleaned.frame[column.name].filter(pl.Series(train))
        why = reason_to_drop(column, values)
        strengths[column.name] = found = strength(values, cleaned.label[train], seed, people)
        why = "identifies people: nothing learned from it holds for new ones" if column.name == cleaned.person else why
        reason = found.leak if found.leak is not None else why
        if reason is not None:
            reasons[column.name] = reason
            console.print(f"{'kept by --keep' if column.name in keep else 'dropped'}: {column.name}: {reason}")
    selected = tuple(one for one in columns if one.name not in reasons or one.name in keep)
    if not selected:
        raise BrokenTableError(f"no input column is left: {reasons}. Add columns to the table, or use --keep")
    dropped = {name: reason for name, reason in reasons.items() if name not in keep}
    return Selection(selected, dropped, {name: reasons[name] for name in reasons if name in keep}, strengths)
