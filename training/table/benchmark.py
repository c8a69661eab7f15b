"""Repeated cross-validation of the models of a flat table, all on the same folds.

Nothing is chosen on a fold's test rows. Its training rows are divided into four parts; each of four models learns from
three of them and is tuned and calibrated on the fourth. The mean of the four log odds predicts the test rows. The
threshold has the lowest cost on the training rows, each predicted by the model that did not learn from it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedGroupKFold

from shoplens.errors import BrokenTableError, SettingsError
from shoplens.files import file_digest, read_json, whole_file, write_json
from training.calibration import check_calibration
from training.datasets import Rows
from training.fit import train_model
from training.metrics import purchase_samples
from training.models.blend import HazardBlend
from training.models.contract import Recipe
from training.resamples import Array, Resamples, interval, paired_difference
from training.rows import RowSet
from training.table.clean import Cleaned, clean, read_flat
from training.table.columns import NO_ITEMS, NO_TIME, Column, Encoder
from training.table.run import RESAMPLES, prepare, table_recipe
from training.table.split import person_numbers
from training.threshold import cheapest_threshold

_INNER = 4
_MEMBERS = 2  # networks of each of the four models
_NEAR = 1e-6  # probabilities are kept this far from 0 and 1
MODELS = ("base_rate", "logistic_regression", "decision_tree", HazardBlend.name)
_METRICS = ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error")
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Protocol:
    """The arguments of a benchmark.

    Attributes:
        data: The file.
        target: The column to predict.
        drop: Columns that no model may read.
        folds: Number of folds per repeat.
        repeats: Number of repeats, each with different folds.
        seed: Seed of the folds and the models; repeat r uses seed + r.
        false_alarm_cost: Cost of a false alarm, in units of the cost of a missed true row.
        models: Names of models; the last is compared with each of the others. A blend's parts are evaluated as well.
    """

    data: Path
    target: str
    drop: tuple[str, ...] = ()
    folds: int = 5
    repeats: int = 3
    seed: int = 0
    false_alarm_cost: float = 1.0
    models: tuple[str, ...] = MODELS


def _folds(
    label: NDArray[Any], group: NDArray[Any], count: int, seed: int, what: str, advice: str
) -> Iterator[tuple[Any, Any]]:
    """Yield (training rows, held-out rows) of `what`; a group is never divided."""
    fewest = min(len(np.unique(group[label == value])) for value in (0, 1))
    if fewest < count:
        raise BrokenTableError(
            f"{what}: must have at least {count} people, or rows, with each label; it has {fewest} with one. "
            f"{advice}, or add rows"
        )
    yield from StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(label, label, group)


def _quarters(train: RowSet, seed: int) -> Iterator[tuple[Any, Any]]:
    return _folds(train.labels, train.user_id, _INNER, seed, "the training part of a fold", "Raise --folds")


def _train(name: str, recipe: Recipe, rows: Rows) -> dict[str, tuple[Any, Any]]:
    """Return model -> its probabilities for the validation rows and the test rows; for a blend, also of its parts."""
    model = train_model(name, recipe, rows, NO_ITEMS)
    models = [model, *(model.parts if isinstance(model, HazardBlend) else ())]
    return {one.name: (one.predict(rows.validation.inputs), one.predict(rows.test.inputs)) for one in models}


def _cross_fitted(
    train: RowSet, test: RowSet, recipe: Recipe, models: tuple[str, ...]
) -> tuple[Scores, dict[str, float]]:
    """Return model -> probabilities of the test rows, (rows,), and model -> threshold, learned from `train` only."""
    odds: dict[str, list[Array]] = {}
    seen: Scores = {}
    for part, (inner, held) in enumerate(_quarters(train, recipe.seed)):
        rows = Rows(train.take(inner), train.take(held), test, NO_TIME)
        for name in models:
            for one, (validation, scores) in _train(name, replace(recipe, seed=recipe.seed + part), rows).items():
                odds.setdefault(one, []).append(logit(np.clip(scores.astype(np.float64), _NEAR, 1 - _NEAR)))
                seen.setdefault(one, np.zeros(len(train)))[held] = validation
    cost = recipe.false_alarm_cost
    thresholds = {name: cheapest_threshold(train.labels, score, cost) for name, score in seen.items()}
    return {name: expit(np.mean(found, axis=0)) for name, found in odds.items()}, thresholds


def _fold(
    cleaned: Cleaned,
    columns: tuple[Column, ...],
    group: NDArray[Any],
    rows: tuple[Any, Any],
    seed: int,
    protocol: Protocol,
) -> pl.DataFrame:
    """Return the test rows of a fold with each model's probability ("score NAME") and decision ("decision NAME")."""
    encoder = Encoder.fit(cleaned.frame[rows[0]], columns, seed)
    train, test = (encoder.rows(cleaned.frame[one], cleaned.label[one], group[one]) for one in rows)
    recipe = replace(table_recipe(len(train), seed, protocol.false_alarm_cost), members=_MEMBERS)
    scores, thresholds = _cross_fitted(train, test, recipe, protocol.models)
    found = {"row": rows[1]} | {f"score {name}": score for name, score in scores.items()}
    return pl.DataFrame(found | {f"decision {name}": score >= thresholds[name] for name, score in scores.items()})


def _cost(label: NDArray[Any], decision: NDArray[Any], false_alarm_cost: float) -> float:
    """Return the cost of the errors per 1,000 rows."""
    missed, false = ((label > 0) & (decision == 0)).mean(), ((label == 0) & (decision > 0)).mean()
    return float(1_000 * (missed + false_alarm_cost * false))


def _require_same(about: dict[str, Any], keep: Path) -> None:
    """Raise a SettingsError if the folder has folds of another benchmark; otherwise, record this one in it."""
    card = keep / "benchmark.json"
    if card.is_file() and read_json(card) != about:
        raise SettingsError(
            f"--keep: must be a new folder, or one with folds of the same data and options; {keep} has others. Choose "
            f"another folder"
        )
    keep.mkdir(parents=True, exist_ok=True)
    write_json(card, about)


def benchmark(protocol: Protocol, target: Path, keep: Path | None, log: Callable[[str], None]) -> dict[str, Any]:
    """Cross-validate every model, write the figures to `target` and return them.

    A metric is computed on the out-of-fold predictions of all rows and averaged over the repeats. Its interval
    resamples people, or rows if no column identifies people; the resamples are the same in every repeat.

    Args:
        protocol: What to measure.
        target: The JSON file.
        keep: Folder for the predictions of finished folds, which are not computed again.
        log: Receives a line per fold.

    Raises:
        SourceError: the file cannot be read.
        SettingsError: a named column does not exist.
        BrokenTableError: the target does not have two values, or there are too few rows.
    """
    cleaned = clean(read_flat(protocol.data), protocol.target)
    names = [column.name for column in cleaned.columns]
    unknown = [name for name in protocol.drop if name not in names]
    if unknown:
        raise SettingsError(f"--drop: must name columns of the table; received {unknown[0]!r}. It has {names}")
    columns = tuple(one for one in cleaned.columns if one.name not in (*protocol.drop, cleaned.person))
    group = person_numbers(cleaned)
    about = {
        "data": {"file": protocol.data.name, "digest": file_digest(protocol.data), "account": str(cleaned.account)},
        "target": protocol.target,
        "dropped": list(protocol.drop),
        "folds": protocol.folds,
        "false_alarm_cost": protocol.false_alarm_cost,
        "models": list(protocol.models),
    }
    if keep is not None:
        _require_same(about, keep)
    prepare(protocol.models)
    found = []
    for seed in range(protocol.seed, protocol.seed + protocol.repeats):
        folds = []
        for number, rows in enumerate(_folds(cleaned.label, group, protocol.folds, seed, "the table", "Lower --folds")):
            kept = None if keep is None else keep / f"repeat-{seed}-fold-{number}.parquet"
            if kept is not None and kept.is_file():
                folds.append(pl.read_parquet(kept))
                continue
            seed_of_fold = 100 * seed + 10 * number
            folds.append(_fold(cleaned, columns, group, rows, seed_of_fold, protocol))
            if kept is not None:
                with whole_file(kept) as work:
                    folds[-1].write_parquet(work)
            log(f"seed {seed}, fold {number + 1} of {protocol.folds}")
        found.append(pl.concat(folds).sort("row"))
    figures = _figures(cleaned.label.astype(np.float64), group, found, protocol)
    content = about | {"repeats": protocol.repeats, "seed": protocol.seed, "figures": figures}
    write_json(target, content)
    return content


def _figures(label: Array, group: NDArray[Any], found: list[pl.DataFrame], protocol: Protocol) -> dict[str, Any]:
    """Return model -> its metrics, calibration and cost, and the last model minus it."""
    resamples = Resamples(group, RESAMPLES, protocol.seed)
    names = [name.removeprefix("score ") for name in found[0].columns if name.startswith("score ")]
    samples = {}
    for name in names:
        each = [purchase_samples(label, table[f"score {name}"].to_numpy(), resamples, 0.5) for table in found]
        samples[name] = {metric: np.mean([one[metric] for one in each], axis=0) for metric in _METRICS}
    content: dict[str, Any] = {}
    for name in names:
        checks = [check_calibration(label, table[f"score {name}"].to_numpy(), protocol.seed) for table in found]
        costs = [_cost(label, table[f"decision {name}"].to_numpy(), protocol.false_alarm_cost) for table in found]
        minus = {one: paired_difference(samples[protocol.models[-1]][one], samples[name][one]) for one in _METRICS[:4]}
        content[name] = {
            **{metric: interval(values).as_json() for metric, values in samples[name].items()},
            "calibration": [check.as_json() for check in checks],
            "cost_per_1000": round(float(np.mean(costs)), 3),
            "last_minus_this": {metric: one.as_json() for metric, one in minus.items()},
        }
    return content
