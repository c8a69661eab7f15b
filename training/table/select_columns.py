"""Column selection: drop constants, row identifiers and leaks, as determined on the training rows.

A leak reveals the target (docs/decisions/2026-11-25-leaks-in-a-table.md). A column that has a value (a number: is not
zero; a boolean: is true) almost only when the target is true was recorded after the outcome. A column that on its own
ranks unseen rows almost perfectly is the target under another name.
"""

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from shoplens.errors import BrokenTableError, SettingsError
from shoplens.stage import console
from training.table.clean import Cleaned
from training.table.columns import Column
from training.table.split import Split

# A leak: among rows with a value, a false target is at least a hundred times rarer than overall, and at least half of
# the rows with a true target have a value.
IMPURE, COVERED = 0.01, 0.5
_FEWEST = 10  # fewer rows may agree by chance
# PageValues, the strongest legitimate column that we have seen, reaches 0.86, and the best model on its table 0.93. A
# copy of the target with one wrong row in a hundred still reaches 0.99.
AUC = 0.98
_FOLDS, _LEAVES = 3, 32


def reveals_target(state: NDArray[np.bool_], label: NDArray[np.int8]) -> bool:
    """Return whether a state of a column, (rows,), implies almost without exception that the label, (rows,), is 1."""
    if state.sum() < _FEWEST or state.all():
        return False
    impurity = 1 - label[state].mean()
    return bool(impurity <= IMPURE * (1 - label.mean()) and state[label == 1].mean() >= COVERED)


def _presence_leak(values: pl.Series, label: NDArray[np.int8]) -> str | None:
    """Return why the presence of a value (nonzero for numbers, true for booleans) is a leak; None if it is not."""
    words, there = ("filled", "missing"), values.is_not_null()
    if values.dtype == pl.Float64:
        words, there = ("not zero", "zero or missing"), values.fill_null(0.0) != 0
    elif values.dtype == pl.Boolean:
        words, there = ("true", "false or missing"), values.fill_null(False)
    for word, state in zip(words, (there.to_numpy(), ~there.to_numpy()), strict=True):
        if reveals_target(state, label):
            yes, no = state[label == 1].mean(), state[label == 0].mean()
            return f"leaks the target: {word} in {yes:.1%} of the rows with a true target, {no:.2%} with a false one"
    return None


def _auc_alone(values: pl.Series, label: NDArray[np.int8], seed: int, people: NDArray[np.int64] | None) -> float:
    """Return the cross-validated ROC AUC of a small tree on a column; rows of one person are kept in one fold."""
    least = max(5, len(values) * (_FOLDS - 1) // _FOLDS // 500)
    model = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, min_samples_leaf=least, random_state=seed)
    if values.dtype == pl.String:
        model = make_pipeline(
            TargetEncoder(target_type="binary", smooth=1.0, cv=KFold(_FOLDS, shuffle=True, random_state=seed)), model
        )
        column = values.fill_null("").to_numpy().astype(object)
    else:
        numbers = values.dt.epoch("us") if isinstance(values.dtype, pl.Datetime) else values
        column = numbers.cast(pl.Float64).to_numpy()  # NaN where missing
    fold = (StratifiedKFold if people is None else StratifiedGroupKFold)(_FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_score(model, column[:, None], label, groups=people, cv=fold, scoring="roc_auc")
    return float(scores.mean())


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
        strengths: Column -> ROC AUC of a small tree on it alone, cross-validated on the training rows.
    """

    columns: tuple[Column, ...]
    dropped: dict[str, str]
    kept: dict[str, str]
    strengths: dict[str, float]


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
    if column.kind == "number" and distinct == len(filled):
        numbers = filled.to_numpy()  # may be nearly consecutive: a split of 60% leaves gaps
        if (numbers == np.floor(numbers)).all() and numbers.max() - numbers.min() <= 2 * distinct:
            return f"identifies rows: {distinct:,} consecutive whole numbers, each once"
    return None


def select_columns(cleaned: Cleaned, divided: Split, keep: frozenset[str], seed: int) -> Selection:
    """Select the input columns on the training rows; those in `keep` are never dropped.

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
    strengths: dict[str, float] = {}
    for column in columns:
        values = cleaned.frame[column.name].filter(pl.Series(train))
        auc = strengths[column.name] = _auc_alone(values, cleaned.label[train], seed, people)
        reason = _presence_leak(values, cleaned.label[train])
        if reason is None and auc >= AUC:
            reason = f"leaks the target: on its own it reaches ROC AUC {auc:.3f} on unseen rows (the limit is {AUC})"
        elif reason is None and column.name == cleaned.person:
            reason = "identifies people: nothing learned from it holds for new ones"
        elif reason is None:
            reason = reason_to_drop(column, values)
        if reason is not None:
            reasons[column.name] = reason
            console.print(f"{'kept by --keep' if column.name in keep else 'dropped'}: {column.name}: {reason}")
    selected = tuple(one for one in columns if one.name not in reasons or one.name in keep)
    if not selected:
        raise BrokenTableError(f"no input column is left: {reasons}. Add columns to the table, or use --keep")
    dropped = {name: reason for name, reason in reasons.items() if name not in keep}
    return Selection(selected, dropped, {name: reasons[name] for name in reasons if name in keep}, strengths)
