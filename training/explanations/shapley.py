"""Shapley values: how much each feature moved an answer away from the mean answer (Lundberg & Lee, NeurIPS 2017).

An unknown feature takes the values that it has in background rows. For trees, the values are exact (Lundberg et al.,
Nature Machine Intelligence 2020). For any other function, they are a mean over one order of the features and its
reverse, which is exact where at most two features interact. The values and the mean answer add up to the answer.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from training.models.baselines import BoostedTrees
from training.models.blend import HazardBlend
from training.models.contract import FloatArray, Model
from training.models.daily_network import DailyNetwork
from training.models.hazard_network import HazardNetwork
from training.rows import Inputs

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Score = Callable[[FloatArray], Any]
_SMALL = 1e-6  # keeps logits finite


def logit(probability: Any) -> Numbers:
    """Return the log odds of a probability, which is first clipped away from 0 and 1."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), _SMALL, 1 - _SMALL)
    return np.asarray(special.logit(clipped))


def mean_scores(score: Score, known: Mask, own: FloatArray, background: FloatArray) -> Numbers:
    """Return the mean score, over the background rows, if only some features are known, (sets,).

    Args:
        score: Maps rows, (rows, features), to scores, (rows,).
        known: Which features are known, (sets, features).
        own: The features of the explained answer, (features,).
        background: Rows whose values replace unknown features, (n, features).
    """
    rows = np.where(known[:, None], own, background)  # (sets, n, features)
    scores = np.asarray(score(rows.reshape(-1, len(own))), dtype=np.float64)
    return np.asarray(scores.reshape(rows.shape[:2]).mean(axis=1))


def permutation_values(score: Score, own: FloatArray, background: FloatArray, seed: int) -> tuple[Numbers, float]:
    """Return the Shapley values of any function, (features,), and its mean over the background.

    Features become known one after the other, in a random order and in its reverse (antithetic sampling; Mitchell et
    al., JMLR 2022, section 4.1); a value is the mean change of the score when its feature becomes known. shap's
    PermutationExplainer computes the same, but compiles for 6 to 18 seconds in every process.

    Args:
        score: See `mean_scores`.
        own: See `mean_scores`.
        background: See `mean_scores`.
        seed: Seed of the order.
    """
    order, size = np.random.default_rng(seed).permutation(len(own)), len(own)
    place = np.argsort(order)
    step = np.arange(size + 1)[:, None]
    known = np.concatenate([place < step, size - 1 - place < step])  # forwards, then backwards: (2 * size + 2, size)
    values = mean_scores(score, known, own, background)
    forwards, backwards = np.diff(values[: size + 1]), np.diff(values[size + 1 :])
    return (forwards[place] + backwards[size - 1 - place]) / 2, float(values[0])


def with_numbers(inputs: Inputs, tabular: FloatArray) -> Inputs:
    """Return rows with the history and time of one row and the given features, (variants, features)."""
    same = np.zeros(len(tabular), dtype=np.int64)
    return Inputs(inputs.names, tabular, inputs.history.take(same), inputs.now[same], inputs.items)


class PurchaseShapley:
    """Shapley values of a purchase model's log odds, over its tabular features."""

    def __init__(self, model: Model, background: FloatArray, seed: int) -> None:
        """Prepare for a model; `background` has the features that it was trained on, (n, features)."""
        import shap

        self._background, self._seed = background, seed
        self._intercept, self._parts = _parts_of(model)
        self._trees = [
            (weight, shap.TreeExplainer(part.trees, background, feature_perturbation="interventional"))
            for weight, part in self._parts
            if isinstance(part, BoostedTrees)
        ]

    def score(self, inputs: Inputs) -> Score:
        """Return the log odds of one row as a function of its features, (variants, features) to (variants,)."""
        return self._score(inputs, self._intercept, self._parts)

    def _score(self, inputs: Inputs, constant: float, parts: list[tuple[float, Model]]) -> Score:
        """Return the weighted sum of some parts; a part that reads days alone is the same for all variants."""
        days = [(weight, part) for weight, part in parts if isinstance(part, DailyNetwork)]
        rest = [(weight, part) for weight, part in parts if not isinstance(part, DailyNetwork)]

        @cache
        def known() -> float:  # evaluates a network over all days, which not every caller needs
            return constant + sum(weight * float(_logits(part, inputs)[0]) for weight, part in days)

        def score(tabular: FloatArray) -> Numbers:
            rows = with_numbers(inputs, tabular)
            return np.asarray(
                known() + sum(weight * _logits(part, rows) for weight, part in rest) + np.zeros(len(rows))
            )

        return score

    def values(self, inputs: Inputs) -> tuple[Numbers, float]:
        """Return the values of one row's features, (features,), and the mean log odds over the background."""
        total, base = np.zeros(len(inputs.names)), self._intercept
        for weight, trees in self._trees:
            total += weight * np.asarray(trees.shap_values(inputs.tabular, check_additivity=False))[0]
            base += weight * float(trees.expected_value)
        others = [(weight, part) for weight, part in self._parts if not isinstance(part, BoostedTrees)]
        if others:
            score = self._score(inputs, 0.0, others)
            found, mean = permutation_values(score, inputs.tabular[0], self._background, self._seed)
            total, base = total + found, base + mean
        return total, base


def _parts_of(model: Model) -> tuple[float, list[tuple[float, Model]]]:
    """Return an intercept and weighted models whose logits add up to the model's logits, as do their Shapley values."""
    if isinstance(model, HazardBlend):
        return model.platt.intercept, [(model.platt.slope / len(model.parts), part) for part in model.parts]
    if isinstance(model, BoostedTrees):
        return model.platt.intercept, [(model.platt.slope, model)]
    return 0.0, [(1.0, model)]


def _logits(model: Model, inputs: Inputs) -> Numbers:
    if isinstance(model, BoostedTrees | HazardNetwork | DailyNetwork):
        return model.logits(inputs)
    return logit(model.predict(inputs))
