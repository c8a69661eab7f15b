"""Candidates with targets: what a ranker learns from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics import ndcg_of_hits
from training.models.candidates import CandidateMaker, Candidates
from training.models.contract import FloatArray, Recipe
from training.models.neighbours import Neighbours
from training.models.ranking import best_first
from training.rows import RowSet

_BATCH = 128  # rows described at once: arrays below 32 MB, which the allocator reuses
_FOLDS = 3  # times at which rules are counted anew for the training rows


@dataclass(frozen=True)
class Examples:
    """Rows with at least one target among their candidates, flat.

    Attributes:
        start: First candidate of each row, (rows,).
        count: Candidates of each row, (rows,).
        features: float16 (candidates, features).
        target: Whether each candidate is a target, (candidates,).
        wanted: Targets of each row, those that are no candidates included, (rows,).
        made_from: Number of rows that they were made from, those without a target among the candidates included.
    """

    start: NDArray[np.int64]
    count: NDArray[np.int64]
    features: NDArray[np.float16]
    target: NDArray[np.bool_]
    wanted: NDArray[np.int64]
    made_from: int

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def make(cls, maker: CandidateMaker, rows: RowSet, neighbours: Neighbours | None) -> "Examples":
        """Return the examples of rows; rules must have been counted before the rows' times."""
        parts = []
        for begin in range(0, len(rows), _BATCH):
            batch = rows.take(np.arange(begin, min(begin + _BATCH, len(rows))))
            parts.append(cls._of(maker.make(batch.inputs, neighbours), batch.target_sets, maker.size))
        return cls.join(parts)

    @classmethod
    def _of(cls, found: Candidates, targets: list[NDArray[np.int32]], size: int) -> "Examples":
        sizes = np.array([len(one) for one in targets])
        wanted = np.repeat(np.arange(len(targets)), sizes) * size + np.concatenate(targets)
        target = np.isin(found.row * size + found.item, wanted)
        hit = np.bincount(found.row, target, found.rows) > 0
        kept = hit[found.row]
        count = np.bincount(found.row[kept], minlength=found.rows)[hit]
        features = np.clip(found.features[kept], -6e4, 6e4).astype(np.float16)
        return cls(np.cumsum(count) - count, count, features, target[kept], sizes[hit], len(targets))

    @classmethod
    def join(cls, parts: "list[Examples]") -> "Examples":
        """Return the rows of several examples, in order."""
        offset = np.cumsum([0, *(len(one.target) for one in parts)])
        return cls(
            np.concatenate([one.start + first for one, first in zip(parts, offset, strict=False)]),
            np.concatenate([one.count for one in parts]),
            np.concatenate([one.features for one in parts]),
            np.concatenate([one.target for one in parts]),
            np.concatenate([one.wanted for one in parts]),
            sum(one.made_from for one in parts),
        )

    def ndcg(self, score: FloatArray) -> float:
        """Return NDCG@10 of scores of the candidates, (candidates,), over all rows that these were made from."""
        row = np.repeat(np.arange(len(self)), self.count)
        hit, place = self.target[best_first(row, score)], np.arange(len(row)) - self.start[row]
        hits = np.zeros((len(self), 10), dtype=bool)
        hits[row[place < 10], place[place < 10]] = hit[place < 10]
        return float(ndcg_of_hits(hits, self.wanted.astype(np.float64)).sum() / self.made_from)

    def batch(self, rows: NDArray[np.int64], width: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return features, (rows, width, features), mask and target probabilities, each (rows, width)."""
        column = np.arange(width)
        mask = column < self.count[rows][:, None]
        place = np.where(mask, self.start[rows][:, None] + column, 0)
        features = self.features[place].astype(np.float32)
        features[~mask] = 0
        target = (self.target[place] & mask).astype(np.float32)
        return features, mask.astype(np.float32), target / target.sum(axis=1, keepdims=True)


def count_rules(recipe: Recipe, rows: RowSet, size: int, until: np.datetime64) -> Neighbours | None:
    """Count rules among events known before `until`; None if the candidates use none."""
    if recipe.candidates is None or not recipe.candidates.neighbours:
        return None
    return Neighbours.count(rows.full_log, size, until)


def examples_of(recipe: Recipe, maker: CandidateMaker, train: RowSet, validation: RowSet) -> tuple[Examples, Examples]:
    """Return the training and validation examples, whose rules were counted before the rows that they describe.

    Rules counted over the training rows' own targets would look far better in training than they are later.
    """
    times = train.inputs.now.astype(np.int64)
    bounds = np.unique(np.quantile(times, np.arange(_FOLDS) / _FOLDS, method="lower"))
    folds = np.searchsorted(bounds, times, side="right") - 1
    parts = []
    for fold, bound in enumerate(bounds):
        rows = train.take(np.flatnonzero(folds == fold))
        rules = count_rules(recipe, train, maker.size, np.datetime64(int(bound), "us"))
        parts.append(Examples.make(maker, rows, rules))
    first = count_rules(recipe, train, maker.size, validation.inputs.now.min())
    return Examples.join(parts), Examples.make(maker, validation, first)
