"""One model on one row set: samples of every metric, from which intervals and paired differences follow."""

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
    """How a model did.

    Attributes:
        samples: Metric -> (resamples + 1,): on all rows first, then on each resample.
        score: (rows,) probabilities, for "purchase".
        ranked: (rows, 20) catalogue indexes, for "next_item".
    """

    samples: dict[str, Array]
    score: NDArray[np.float32] | None = None
    ranked: NDArray[np.int32] | None = None

    def intervals(self) -> dict[str, Interval]:
        """Return every metric with its interval."""
        return intervals(self.samples)


def evaluate_scores(rows: RowSet, score: NDArray[np.float32], weight: NDArray[np.int32], threshold: float) -> Evaluation:
    """Judge purchase probabilities that are there already."""
    return Evaluation(purchase_samples(rows.labels.astype(np.float64), score, weight, threshold), score=score)


def evaluate_model(model: Predicts, rows: RowSet, weight: NDArray[np.int32], threshold: float) -> Evaluation:
    """Predict the rows and judge the predictions.

    Args:
        model: A model of the rows' task.
        rows: Held-out rows.
        weight: (resamples + 1, rows), from `user_weights`.
        threshold: Probability from which a purchase is predicted.
    """
    if rows.task == "purchase":
        return evaluate_scores(rows, model.predict(rows.inputs), weight, threshold)
    ranked = rank_all(model, rows.inputs)
    per_row = ranking_metrics(ranked, rows.target_sets)
    return Evaluation({name: row_mean_samples(values, weight) for name, values in per_row.items()}, ranked=ranked)
