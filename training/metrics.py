"""Metrics of both tasks, and their 95% intervals.

Intervals resample users, because the rows of one user are not independent samples: cluster bootstrap with percentile
intervals (Efron & Tibshirani, 1993, chapter 13). Two models are compared on the same resamples, which gives an interval
for their difference. Next items are ranked in full, never in a sample of the catalogue (Krichene & Rendle, 2020).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import ModelError

Array = NDArray[np.float64]
Numbers = NDArray[Any]
PURCHASE_METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "log_loss")
RANKING_METRICS = ("hr@10", "ndcg@10", "recall@10", "recall@20")
_CLIP = 1e-7  # Keras clips probabilities to the same value before taking logarithms


def _divide(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def weighted_purchase_metrics(label: Numbers, score: Numbers, weight: Numbers, threshold: float) -> dict[str, Array]:
    """Return every purchase metric for several weightings of the rows.

    ROC AUC and average precision follow scikit-learn's definitions: ties share a threshold, and
    AP = sum of (R_n - R_{n-1}) * P_n, without interpolation.

    Args:
        label: 0 or 1, (rows,).
        score: Probabilities, (rows,).
        weight: Non-negative weight of each row, (weightings, rows); each metric has one value per weighting.
        threshold: Lowest probability at which a purchase is predicted.
    """
    order = np.argsort(-score, kind="stable")
    y, s, w = label[order].astype(np.float64), score[order], weight[:, order].astype(np.float64)
    last = np.flatnonzero(np.append(np.diff(s) != 0, True))  # the last row of each tie
    true = np.cumsum(w * y, axis=1)[:, last]  # (weightings, thresholds) positives at or above
    called = np.cumsum(w, axis=1)[:, last]
    positives, total = true[:, -1], called[:, -1]
    negatives = total - positives
    precision, recall = _divide(true, called), _divide(true, positives[:, None])
    step = np.diff(recall, axis=1, prepend=0)
    rate = _divide(called - true, negatives[:, None])
    at = int((s[last] >= threshold).sum()) - 1
    tp = true[:, at] if at >= 0 else np.zeros_like(positives)
    call = called[:, at] if at >= 0 else np.zeros_like(positives)
    clipped = np.clip(s.astype(np.float64), _CLIP, 1 - _CLIP)
    losses = -(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))
    return {
        "accuracy": _divide(tp + negatives - (call - tp), total),
        "precision": _divide(tp, call),
        "recall": _divide(tp, positives),
        "f1": _divide(2 * tp, call + positives),
        "roc_auc": np.trapezoid(np.pad(recall, ((0, 0), (1, 0))), np.pad(rate, ((0, 0), (1, 0))), axis=1),
        "average_precision": (step * precision).sum(axis=1),
        "log_loss": _divide(w @ losses, total),
    }


def purchase_metrics(
    label: NDArray[np.float32], score: NDArray[np.float32], threshold: float = 0.5
) -> dict[str, float]:
    """Return every purchase metric, each row weighted equally.

    Raises:
        ModelError: labels and scores differ in length or are empty.
    """
    if len(label) != len(score) or len(label) == 0:
        raise ModelError(
            f"label and score: must have the same length and not be empty; received {len(label)} and {len(score)}"
        )
    found = weighted_purchase_metrics(label, score, np.ones((1, len(label))), threshold)
    return {name: float(values[0]) for name, values in found.items()}


def ranking_metrics(ranked: NDArray[np.int32], targets: Sequence[NDArray[np.int32]]) -> dict[str, Array]:
    """Return every ranking metric for each row.

    NDCG@10 uses binary gains and is normalized by the best value that the row's targets allow (Järvelin & Kekäläinen,
    2002).

    Args:
        ranked: Catalogue indexes, best first, (rows, k); k is 20, or the size of a smaller catalogue.
        targets: One non-empty set of catalogue indexes per row.
    """
    hits = np.stack([np.isin(row, wanted) for row, wanted in zip(ranked, targets, strict=True)])
    counts = np.array([len(wanted) for wanted in targets], dtype=np.float64)
    hits = np.pad(hits, ((0, 0), (0, max(0, 20 - hits.shape[1]))))
    discount = 1 / np.log2(np.arange(2, 12))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(counts, 10).astype(int)]
    return {
        "hr@10": hits[:, :10].any(axis=1).astype(np.float64),
        "ndcg@10": (hits[:, :10] * discount).sum(axis=1) / ideal,
        "recall@10": hits[:, :10].sum(axis=1) / counts,
        "recall@20": hits[:, :20].sum(axis=1) / counts,
    }


_TAIL = 2.5  # per cent on each side
_RESAMPLES = 50  # resamples computed at once, which bounds memory at (50, rows)


@dataclass(frozen=True)
class Interval:
    """A metric on all rows with its 95% interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return JSON-serializable values, rounded to six decimals."""
        return {name: round(value, 6) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def user_weights(user: NDArray[np.str_], resamples: int, seed: int) -> NDArray[np.int32]:
    """Return how often each row counts in each resample, (resamples + 1, rows); the first row is all ones."""
    names, member = np.unique(user, return_inverse=True)
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])
    counts = np.concatenate([np.ones((1, len(names)), dtype=counts.dtype), counts])
    return counts[:, member].astype(np.int32)


def interval(values: Array) -> Interval:
    """Return a metric with its interval, given its values on all rows and on each resample."""
    low, high = np.percentile(values[1:], [_TAIL, 100 - _TAIL])
    return Interval(float(values[0]), float(low), float(high))


def purchase_samples(label: Numbers, score: Numbers, weight: NDArray[np.int32], threshold: float) -> dict[str, Array]:
    """Return metric -> values on all rows and on each resample, (resamples + 1,)."""
    parts = [
        weighted_purchase_metrics(label, score, weight[begin : begin + _RESAMPLES], threshold)
        for begin in range(0, len(weight), _RESAMPLES)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def row_mean_samples(values: Array, weight: NDArray[np.int32]) -> Array:
    """Return the mean over rows of a per-row metric, on all rows and on each resample, (resamples + 1,)."""
    return _divide(weight @ values, weight.sum(axis=1).astype(np.float64))


def intervals(samples: dict[str, Array]) -> dict[str, Interval]:
    """Return the interval of every metric."""
    return {name: interval(values) for name, values in samples.items()}


def paired_difference(new: Array, old: Array) -> Interval:
    """Return new - old with its interval; both are (resamples + 1,) values on the same resamples."""
    return interval(new - old)
