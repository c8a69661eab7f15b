"""LIME: a linear approximation of a model near one row (Ribeiro, Singh & Guestrin, KDD 2016, section 3.4, algorithm 1).

It is a cross-check of the Shapley values. The package `lime` had its last release in 2020 and needs scikit-image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from training.explanations.shapley import Score, mean_scores
from training.models.contract import FloatArray

Numbers = NDArray[np.float64]
_SAMPLES = 500
_RIDGE = 0.01
_WIDTH = 0.75  # of the kernel, times the square root of the number of features, as in the authors' program


def local_line(score: Score, own: FloatArray, background: FloatArray, seed: int) -> Numbers:
    """Return the weight of each feature in a linear model fitted to the function near a row, (features,).

    A sample keeps a random share of the features. Its score is the mean over all background rows, which provide the
    others: with one background row per sample, two runs agreed on only a quarter of the ten largest weights. The
    weight of a sample is exp(-removed features / width²), so those near the row count most.

    Args:
        score: See `mean_scores`.
        own: See `mean_scores`.
        background: See `mean_scores`.
        seed: Seed of the samples.
    """
    random, size = np.random.default_rng(seed), len(own)
    kept = random.random((_SAMPLES, size)) < random.random((_SAMPLES, 1))
    scores = mean_scores(score, kept, own, background)
    weight = np.exp(-(~kept).sum(axis=1) / (_WIDTH**2 * size))
    line = Ridge(alpha=_RIDGE).fit(kept.astype(np.float64), scores, sample_weight=weight)
    return np.asarray(line.coef_, dtype=np.float64)


def agreement(one: Numbers, other: Numbers, top: int) -> tuple[float, float]:
    """Compare two explanations of an answer, (features,) each.

    Returns:
        Spearman's rank correlation of the effects over the features that are among the `top` largest of either, 0 if
        all effects of one are equal; and the share of the `top` largest that both have.
    """

    def largest(values: Numbers) -> set[Any]:
        return set(np.argsort(-np.abs(values), kind="stable")[:top].tolist())

    first, second = largest(one), largest(other)
    used = sorted(first | second)
    correlation = 0.0 if np.ptp(one[used]) == 0 or np.ptp(other[used]) == 0 else spearmanr(one[used], other[used])[0]
    return float(correlation), len(first & second) / len(first)
