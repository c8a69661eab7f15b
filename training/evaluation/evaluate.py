"""Evaluation of one model on one row set: metrics on resamples, for intervals and paired differences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import Interval, intervals, purchase_samples, row_mean_samples
from training.evaluation.metrics import Array, ranking_metrics
from training.evaluation.ranking import Predicts, rank_all
from training.rows.rowset import RowSet

MAIN_METRIC = {"purchase": "average_precision", "next_item": "ndcg@10"}


@dataclass(frozen=True)
class Evaluation:
    """The metrics and predictions of a model.

    Attributes:
        samples: Metric -> values on all rows and on each resample, (resamples + 1,).
        score: Probabilities, (rows,), for "purchase".
        ranked: Catalogue indexes, best first, (rows, 20), for "next_item".
    """

    samples: dict[str, Array]
    score: NDArray[np.float32] | None = None
    ranked: NDArray[np.int32] | None = None

    def intervals(self) -> dict[str, Interval]:
        """Return every metric with its interval."""
        return intervals(self.samples)


def evaluate_model(model: Predicts, rows: RowSet, weight: NDArray[np.int32], threshold: float) -> Evaluation:
    """Predict held-out rows and compute the metrics of their task; `weight` is from `user_weights`."""
    if rows.task == "purchase":
        score = model.predict(rows.inputs)
        return Evaluation(purchase_samples(rows.labels.astype(np.float64), score, weight, threshold), score=score)
    ranked = rank_all(model, rows.inputs)
    per_row = ranking_metrics(ranked, rows.target_sets)
    return Evaluation({name: row_mean_samples(values, weight) for name, values in per_row.items()}, ranked=ranked)
