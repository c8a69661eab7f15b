"""Metrics of both tasks. Next items are ranked in full, never in a sample of them (Krichene & Rendle, 2020)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import ModelError
from training.calibration import calibration_error, equal_count_bins
from training.resamples import Array, Resamples

Numbers = NDArray[Any]
PURCHASE_METRICS = (
    *("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"),
    *("log_loss", "brier", "calibration_error"),
)
RANKING_METRICS = ("hr@10", "ndcg@10", "recall@10", "recall@20")
_CLIP = 1e-7  # Keras clips probabilities to the same value before taking logarithms


def _divide(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def weighted_purchase_metrics(label: Numbers, score: Numbers, weight: Numbers, threshold: float) -> dict[str, Array]:
    """Return every purchase metric for several weightings of the rows.

    ROC AUC and average precision follow scikit-learn's definitions: ties share a threshold, and
    AP = sum of (R_n - R_{n-1}) * P_n, without interpolation. `brier` is the mean squared error of the probabilities
    (Brier, 1950), `calibration_error` that of `training.calibration`; its bins are those of the rows without weights.

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
        "brier": _divide(w @ (y - s) ** 2, total),
        "calibration_error": calibration_error(y, s.astype(np.float64), equal_count_bins(s), w),
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


def ndcg_of_hits(hits: NDArray[np.bool_], counts: Array) -> Array:
    """Return NDCG@10 of each row from the hits of its best ten, (rows, 10), and its number of targets, (rows,)."""
    discount = 1 / np.log2(np.arange(2, 12))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(counts, 10).astype(int)]
    return np.asarray((hits * discount).sum(axis=1) / ideal)


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
    return {
        "hr@10": hits[:, :10].any(axis=1).astype(np.float64),
        "ndcg@10": ndcg_of_hits(hits[:, :10], counts),
        "recall@10": hits[:, :10].sum(axis=1) / counts,
        "recall@20": hits[:, :20].sum(axis=1) / counts,
    }


def purchase_samples(label: Numbers, score: Numbers, resamples: Resamples, threshold: float) -> dict[str, Array]:
    """Return metric -> values on all rows and on each resample, (resamples + 1,).

    The calibration error cannot be negative, so a resample adds its own noise to it. Its values on the resamples are
    moved by the difference between their mean and the value on all rows, the bootstrap's estimate of that bias.
    """
    parts = [weighted_purchase_metrics(label, score, weight, threshold) for weight in resamples.batches()]
    samples = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    error = samples["calibration_error"]
    error[1:] = np.maximum(error[1:] - (error[1:].mean() - error[0]), 0)
    return samples
