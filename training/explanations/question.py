"""One answer, prepared for its explanation: its score as a function of the history, and the effects of its features."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.explanations.parts import require_one_row
from training.explanations.shapley import PurchaseShapley, Score, logit, permutation_values
from training.models.artifact import Predictor
from training.models.contract import FloatArray
from training.models.ranker import Described, ListwiseRanker
from training.rows import Inputs

Numbers = NDArray[np.float64]
SEED = 0  # the same question gets the same answer
_RIVALS = 20  # other candidates with which an item is compared


@dataclass(frozen=True)
class NumberEffects:
    """The features behind an answer, and their effects.

    Attributes:
        names: Their names, (features,).
        own: Their values, (features,).
        effects: Their Shapley values, (features,).
        base: The mean score over the background; base and effects add up to the score.
        background: Rows whose values replace unknown features, (n, features).
        score: Maps variants of the features, (variants, features), to scores, (variants,).
    """

    names: tuple[str, ...]
    own: FloatArray
    effects: Numbers
    base: float
    background: FloatArray
    score: Score


@dataclass(frozen=True)
class Question:
    """One answer of a model that is to be explained.

    Attributes:
        inputs: The row.
        item: Catalogue index of the explained item; None for a purchase.
        predict: Maps inputs to the score and, if there is an item, its rank, (rows, 1 or 2). The score is the
            log odds of a purchase, or what the model ranks items by: a log probability, if it is `listwise_ranker`.
        numbers: The features behind the answer; None for next-item models other than `listwise_ranker`.
    """

    inputs: Inputs
    item: int | None
    predict: Callable[[Inputs], Numbers]
    numbers: NumberEffects | None


class PurchaseQuestions:
    """Questions about the probability of a purchase."""

    def __init__(self, predictor: Predictor, background: FloatArray) -> None:
        """Prepare for a model; `background` has the features that it was trained on, (n, features)."""
        self._predictor, self._background = predictor, background
        self._shapley = PurchaseShapley(predictor.model, background, SEED)

    def of(self, inputs: Inputs) -> Question:
        """Return the question for one row."""
        require_one_row(inputs)
        inputs = inputs.select(self._predictor.feature_names)
        effects, base = self._shapley.values(inputs)

        def predict(rows: Inputs) -> Numbers:
            return logit(self._predictor.predict(rows))[:, None]

        score = self._shapley.score(inputs)
        numbers = NumberEffects(inputs.names, inputs.tabular[0], effects, base, self._background, score)
        return Question(inputs, None, predict, numbers)


def item_question(predictor: Predictor, inputs: Inputs, item: int | None = None) -> Question:
    """Return the question for an item and one row; by default for the first-ranked item."""
    require_one_row(inputs)
    inputs, model = inputs.select(predictor.feature_names), predictor.model
    asked = int(model.recommend(inputs, 1).items[0, 0]) if item is None else item

    def predict(rows: Inputs) -> Numbers:
        return np.stack(model.place(rows, asked), axis=1).astype(np.float64)

    numbers = None
    if isinstance(model, ListwiseRanker):
        described = model.described(inputs, asked)
        own, others = described.numbers[described.place], _rivals(described)
        effects, base = permutation_values(described.score, own, others, SEED)
        numbers = NumberEffects(described.names, own, effects, base, others, described.score)
    return Question(inputs, asked, predict, numbers)


def _rivals(described: Described) -> FloatArray:
    """Return the features of other candidates of the row, (some, features), evenly spread over the scores.

    The item is compared with them: the explanation says why this item and not another one.
    """
    others = np.delete(described.numbers, described.place, axis=0)
    if not len(others):
        return described.numbers
    order = np.argsort(described.score(others), kind="stable")
    spread = np.linspace(0, len(order) - 1, min(_RIVALS, len(order))).round().astype(np.int64)
    return np.asarray(others[order[spread]], dtype=np.float32)
