"""Calibration of probabilities: how far they are from what happens, and whether chance alone explains it.

Rows are sorted by score into ten bins of equal count. The expected calibration error is the mean over rows of the
difference between a bin's mean score and its share of buyers (Naeini, Cooper & Hauskrecht, AAAI 2015). Even perfect
probabilities miss by chance, so the error is compared with that of labels drawn from the scores themselves, as the
consistency bars of Bröcker & Smith (2007) do.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
BINS = 10
_DRAWS = 2_000
_TAIL = 0.025  # on each side of a bin's range


def equal_count_bins(score: NDArray[Any], bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin of each row, (rows,), from 0 for the lowest scores; equal scores share a bin.

    A tie goes where its middle lies, so a model that gives everyone the same score has one bin.
    """
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2  # mean rank of the scores that are equal
    member = np.floor(middle * bins / max(len(score), 1)).astype(np.int64)
    found: NDArray[np.int64] = np.unique(member[group], return_inverse=True)[1]  # without empty bins
    return found


def calibration_error(label: Array, score: Array, member: NDArray[np.int64], weight: NDArray[Any]) -> Array:
    """Return the expected calibration error for several weightings of the rows, (weightings,).

    Args:
        label: 0 or 1, (rows,).
        score: Probabilities, (rows,).
        member: The bin of each row, (rows,).
        weight: Non-negative weights, (weightings, rows).
    """
    order = np.argsort(member, kind="stable")
    first = np.flatnonzero(np.diff(member[order], prepend=-1))
    gap = np.add.reduceat(weight[:, order] * (label - score)[order], first, axis=1)  # (weightings, bins)
    total = weight.sum(axis=1)
    return np.asarray(np.abs(gap).sum(axis=1) / np.where(total > 0, total, 1), dtype=np.float64)


@dataclass(frozen=True)
class Calibration:
    """Predicted and observed shares by bin, with the ranges that perfectly calibrated scores stay in.

    Attributes:
        rows: Rows of each bin.
        predicted: Mean score of each bin.
        observed: Share of buyers of each bin.
        low: Lower end of the 95% range of the share if the scores were perfect, of each bin by itself.
        high: Upper end of that range.
        error: The expected calibration error.
        limit: The error that perfect scores exceed once in twenty times.
    """

    rows: tuple[int, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    error: float
    limit: float

    @property
    def calibrated(self) -> bool:
        """Whether chance alone explains the error."""
        return self.error <= self.limit

    @property
    def bins_outside(self) -> int:
        """How many bins lie outside their own range; of ten, perfect scores have .5 on average."""
        inside = zip(self.low, self.observed, self.high, strict=True)
        return sum(not low <= share <= high for low, share, high in inside)

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values, rounded to six decimals."""
        names = ("predicted", "observed", "low", "high")
        bins = [
            {"rows": count, **{name: round(getattr(self, name)[k], 6) for name in names}}
            for k, count in enumerate(self.rows)
        ]
        figures = {"error": round(self.error, 6), "limit": round(self.limit, 6)}
        return {**figures, "calibrated": self.calibrated, "bins_outside": self.bins_outside, "bins": bins}


def check_calibration(label: NDArray[Any], score: NDArray[Any], seed: int) -> Calibration:
    """Compare scores with what happened, bin by bin.

    Args:
        label: 0 or 1, (rows,).
        score: Probabilities, (rows,).
        seed: Seed of the labels that are drawn from the scores.
    """
    y, p = label.astype(np.float64), score.astype(np.float64)
    member = equal_count_bins(score)
    rows = np.bincount(member)
    predicted, observed = np.bincount(member, p) / rows, np.bincount(member, y) / rows
    random = np.random.default_rng(seed)
    shares = np.stack([np.bincount(member, random.random(len(p)) < p) for _ in range(_DRAWS)]) / rows  # (draws, bins)
    low, high = np.quantile(shares, [_TAIL, 1 - _TAIL], axis=0)
    errors = np.abs(shares - predicted) @ rows / rows.sum()
    return Calibration(
        rows=tuple(rows.tolist()),
        predicted=tuple(predicted.tolist()),
        observed=tuple(observed.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        error=float(np.abs(observed - predicted) @ rows / rows.sum()),
        limit=float(np.quantile(errors, 0.95)),
    )


def focal_probability(score: NDArray[Any], gamma: float) -> NDArray[np.float32]:
    """Return the probability that a network means which minimized the focal loss.

    The focal loss is smallest at scores that are nearer to .5 than the probability p is. Setting its derivative to zero
    gives p = f(q) / (f(q) + f(1-q)) with f(q) = q / ((1-q)^gamma - gamma (1-q)^(gamma-1) q log q) (Charoenphakdee et
    al., CVPR 2021).

    Args:
        score: Outputs of the network, q, (rows,).
        gamma: The exponent of the loss.
    """
    q = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)

    def f(q: Array) -> Array:
        return np.asarray(q / ((1 - q) ** gamma - gamma * (1 - q) ** (gamma - 1) * q * np.log(q)), dtype=np.float64)

    return np.asarray(f(q) / (f(q) + f(1 - q)), dtype=np.float32)


@dataclass(frozen=True)
class Platt:
    """A line that maps logits to calibrated logits (Platt, 1999). A positive slope changes no ranking."""

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, logit: Array, label: NDArray[Any]) -> "Platt":
        """Fit on rows that the model has not learned from; both arguments are (rows,).

        Rows that cannot tell, because all have one label or the ranking is reversed, leave the logits as they are.
        """
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(label)) < 2:
            return cls()
        line = LogisticRegression(C=np.inf).fit(logit[:, None], label > 0)
        slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
        return cls(slope, intercept) if slope > 0 else cls()

    def line(self, logit: Array) -> Array:
        """Return calibrated logits, (rows,)."""
        return self.slope * logit + self.intercept

    def probability(self, logit: Array) -> NDArray[np.float32]:
        """Return calibrated probabilities, (rows,)."""
        return np.asarray(expit(self.line(logit)), dtype=np.float32)

    def as_json(self) -> dict[str, float]:
        """Return JSON-serializable values."""
        return asdict(self)
