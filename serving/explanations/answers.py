"""Answers to `/explain`, independent of processes and HTTP."""

from pathlib import Path

from serving import schemas
from serving.predictor import Predictions
from shoplens.settings import Settings
from training.explanations.answer import Explainer, Explanation
from training.explanations.background import read_background
from training.rows import Inputs, Task


class Explanations(Predictions):
    """Explains the answers of one package for users of the online store."""

    def __init__(self, package: Path, settings: Settings) -> None:
        super().__init__(package, settings)
        background = None if self._purchase is None else read_background(package)
        self._explainer = Explainer(self._purchase, self._next_item, background)

    def warm(self) -> None:
        """See `Predictions.warm`; explain an empty history as well."""
        super().warm()
        state = self._empty()
        if self._purchase is not None:
            self._explainer.purchase(Inputs.from_state(state, state.now, self._purchase.feature_names))
        if self._next_item is not None:
            self._explainer.item(Inputs.from_state(state, state.now, self._next_item.feature_names, self._items))

    def explain(self, user_id: str, item_id: str | None) -> schemas.ExplainAnswer:
        """Explain the user's purchase probability or, given an item, its rank for the user.

        Raises:
            ModelError: the catalogue has no such item.
        """
        task: Task = "purchase" if item_id is None else "next_item"
        predictor = self._purchase if item_id is None else self._next_item
        if predictor is None:
            return schemas.ExplainAnswer(user_id=user_id, explanation=None, **self._without_model(task))
        item = None if item_id is None else self._explainer.item_index(item_id)
        user = self._read(user_id)
        found: Explanation | None = None
        if user.state is not None:
            inputs = Inputs.from_state(
                user.state, user.now, predictor.feature_names, None if item is None else self._items
            )
            found = self._explainer.purchase(inputs) if item is None else self._explainer.item(inputs, item)
        content = None if found is None else schemas.Explained.model_validate(found.as_json())
        return schemas.ExplainAnswer(user_id=user_id, explanation=content, **self._about(user))
