"""An explanation of one answer, as values for programs and as text for people."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from events.contract import EVENT_NAMES
from features.catalogue import FIRST_INDEX
from features.definitions import DESCRIPTIONS, sentence
from shoplens.errors import ModelError
from training.explanations.meanings import candidate_meaning
from training.explanations.parts import PARTS, Numbers, Places, by_size, leave_one_out, parts_of
from training.explanations.question import NumberEffects, PurchaseQuestions, Question, item_question
from training.models.artifact import Predictor
from training.models.contract import FloatArray
from training.rows import Inputs, Task

_SHOWN = 10  # features and parts of an answer
_ITEMS = 3  # titles of a part
_MEAN: dict[Task, str] = {"purchase": "user", "next_item": "other candidate of this user"}


@dataclass(frozen=True)
class FeatureEffect:
    """The contribution of one feature: to the log odds of a purchase, or to the log probability of an item."""

    name: str
    meaning: str
    value: float | None
    effect: float


@dataclass(frozen=True)
class PartEffect:
    """The contribution of one order or session in the history.

    Attributes:
        time: Its first event (UTC).
        events: Number of its events.
        names: Names of its events.
        items: Titles, or IDs, of its most frequent items, each once.
        effect: Score with it minus score without it: log odds of a purchase, or log probability of an item.
        prediction: The prediction without it.
        rank: Rank of the explained item without it; None for a purchase.
    """

    time: str
    events: int
    names: tuple[str, ...]
    items: tuple[str, ...]
    effect: float
    prediction: float
    rank: int | None


@dataclass(frozen=True)
class Explanation:
    """Why a prediction is what it is.

    Attributes:
        task: "purchase" or "next_item".
        item_id: The explained item; None for a purchase.
        title: Its title, if it has one.
        prediction: Probability of a purchase, or that the item is next; the score, if the model gives no probabilities.
        base: The baseline of the features' effects: the answer for a mean user, or for a mean other candidate of the
            row; None for models whose features are not explained.
        rank: Rank of the item, from 1.
        features: The features with the largest effects, largest first.
        parts: The same for orders and sessions.
    """

    task: Task
    item_id: str | None
    title: str | None
    prediction: float
    base: float | None
    rank: int | None
    features: tuple[FeatureEffect, ...]
    parts: tuple[PartEffect, ...]

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values, with the text."""
        return {**asdict(self), "text": list(self.text())}

    def text(self) -> Iterable[str]:
        """Yield the lines of the explanation."""
        mean = "" if self.base is None else f"; of a mean {_MEAN[self.task]}: {self._shown(self.base)}"
        what = "Purchase" if self.task == "purchase" else f"{self.title or self.item_id}, rank {self.rank}"
        yield f"{what}: {self._shown(self.prediction)}{mean}."
        for one in self.features:
            value = "missing" if one.value is None else f"{one.value:.4g}"
            yield f"{one.effect:+.3f}  {one.name} = {value}: {one.meaning}"
        for part in self.parts:
            time, names = part.time[:16].replace("T", " "), ", ".join(part.names)
            items = f": {', '.join(part.items)}" if part.items else ""
            rank = "" if part.rank is None else f", rank {part.rank}"
            without = f"without it {self._shown(part.prediction)}{rank}"
            yield f"{part.effect:+.3f}  {time}, {part.events} events ({names}){items}; {without}"

    def _shown(self, prediction: float) -> str:
        return f"{prediction:.3g}" if self.base is None else f"{prediction:.2%}"


class Explainer:
    """Explains the answers of both models; created once, then used for any number of rows."""

    def __init__(self, purchase: Predictor | None, next_item: Predictor | None, background: FloatArray | None) -> None:
        """Prepare for the models, one of which may be missing.

        Args:
            purchase: The purchase model.
            next_item: The next-item model.
            background: Rows of the purchase model's features, (n, features), that stand for an average user.

        Raises:
            ModelError: there is no model.
        """
        present = next_item or purchase
        if present is None:
            raise ModelError("models: must include one to explain; there is none. Run `dvc repro package`")
        self._next_item, self._catalogue = next_item, present.catalogue
        self._purchases: PurchaseQuestions | None = None
        if purchase is not None and background is not None:
            self._purchases = PurchaseQuestions(purchase, background)

    @property
    def _ranker(self) -> Predictor:
        if self._next_item is None:
            raise ModelError("item: must be omitted; there is no next-item model")
        return self._next_item

    def item_index(self, item_id: str) -> int:
        """Return the catalogue index of an item.

        Raises:
            ModelError: the catalogue has no such item.
        """
        index = int(self._catalogue.index_of([item_id])[0])
        if index < FIRST_INDEX:
            raise ModelError(f"item: must be an item_id of the catalogue; received {item_id!r}")
        return index

    def purchase(self, inputs: Inputs) -> Explanation:
        """Explain the probability of a purchase for one row.

        Raises:
            ModelError: there is no purchase model.
        """
        if self._purchases is None:
            raise ModelError("item: is required; there is no purchase model")
        return self._answer("purchase", self._purchases.of(inputs))

    def item(self, inputs: Inputs, item: int | None = None) -> Explanation:
        """Explain why an item, by its catalogue index, has its rank for one row; by default the first-ranked one."""
        return self._answer("next_item", item_question(self._ranker, inputs, item))

    def _answer(self, task: Task, question: Question) -> Explanation:
        item, numbers = question.item, question.numbers

        def shown(score: Any) -> Any:
            if item is None:
                return 1 / (1 + np.exp(-score))
            return score if numbers is None else np.exp(score)

        part = parts_of(question.inputs.history, PARTS)
        found = leave_one_out(question.inputs, part, question.predict)
        score, rank = found[:, 0], None if item is None else found[:, 1].astype(np.int64)
        row = {"item_id": None, "title": None}
        if item is not None:
            row = self._catalogue.frame.row(item - FIRST_INDEX, named=True)
        return Explanation(
            task=task,
            item_id=row["item_id"],
            title=row["title"],
            prediction=round(float(shown(score[0])), 6),
            base=None if numbers is None else round(float(shown(numbers.base)), 6),
            rank=None if rank is None else int(rank[0]),
            features=() if numbers is None else _features(task, numbers),
            parts=self._parts(
                question.inputs, part, score[0] - score[1:], shown(score[1:]), None if rank is None else rank[1:]
            ),
        )

    def _parts(
        self, inputs: Inputs, part: Places, effects: Numbers, prediction: Numbers, rank: Places | None
    ) -> tuple[PartEffect, ...]:
        events = inputs.history.log.at(slice(int(inputs.history.begin[0]), int(inputs.history.end[0])))
        found = []
        for k in by_size(effects)[:_SHOWN]:
            own = events.at(part == k)
            items, counts = np.unique(own.item_index[own.item_index >= FIRST_INDEX], return_counts=True)
            best = items[np.argsort(-counts, kind="stable")]
            rows = (self._catalogue.frame.row(int(index) - FIRST_INDEX, named=True) for index in best)
            titles = dict.fromkeys(row["title"] or row["item_id"] for row in rows)  # sizes of an item share a title
            found.append(
                PartEffect(
                    time=str(own.event_time[0]),
                    events=len(own),
                    names=tuple(EVENT_NAMES[code - 1] for code in np.unique(own.event_code)),
                    items=tuple(titles)[:_ITEMS],
                    effect=round(float(effects[k]), 6),
                    prediction=round(float(prediction[k]), 6),
                    rank=None if rank is None else int(rank[k]),
                )
            )
        return tuple(found)


def _feature_meaning(name: str) -> str:
    return sentence(DESCRIPTIONS.get(name, name))


def _features(task: Task, numbers: NumberEffects) -> tuple[FeatureEffect, ...]:
    meaning = _feature_meaning if task == "purchase" else candidate_meaning
    return tuple(
        FeatureEffect(
            name=numbers.names[k],
            meaning=meaning(numbers.names[k]),
            value=None if np.isnan(numbers.own[k]) else float(numbers.own[k]),
            effect=round(float(numbers.effects[k]), 6),
        )
        for k in by_size(numbers.effects)[:_SHOWN]
    )
