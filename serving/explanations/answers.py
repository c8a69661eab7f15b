"""Answers to `/explain`: the logic without processes and HTTP."""

from pathlib import Path

from features.catalogue import FIRST_INDEX
from serving import schemas
from serving.predictor import Predictions
from shoplens.errors import ModelError
from shoplens.settings import Settings
from training.explanations.answer import Explainer, Explanation
from training.explanations.background import read_background
from training.rows import Inputs


class Explanations(Predictions):
    """Explains the answers of one package for users of the online store."""

    def __init__(self, package: Path, settings: Settings) -> None:
        super().__init__(package, settings)
        self._explainer = Explainer(self._purchase, self._next_item, read_background(package))

    def warm(self) -> None:
        """See `Predictions.warm`; explain an empty history as well."""
        super().warm()
        state = self._empty()
        self._explainer.purchase(Inputs.from_state(state, state.now, self._purchase.feature_names))
        self._explainer.item(Inputs.from_state(state, state.now, self._next_item.feature_names, self._items))

    def item_index(self, item_id: str) -> int:
        """Return the catalogue index of an item.

        Raises:
            ModelError: the catalogue has no such item.
        """
        index = int(self._catalogue.index_of([item_id])[0])
        if index < FIRST_INDEX:
            raise ModelError(f"item_id: must be an item of the catalogue; received {item_id!r}")
        return index

    def explain(self, user_id: str, item_id: str | None) -> schemas.ExplainAnswer:
        """Return why the user is expected to buy, or, with an item, why it has its rank for the user.

        Raises:
            ModelError: the catalogue has no such item.
        """
        item = None if item_id is None else self.item_index(item_id)
        user = self._read(user_id)
        found: Explanation | None = None
        if user.state is not None and item is None:
            inputs = Inputs.from_state(user.state, user.now, self._purchase.feature_names)
            found = self._explainer.purchase(inputs)
        elif user.state is not None:
            inputs = Inputs.from_state(user.state, user.now, self._next_item.feature_names, self._items)
            found = self._explainer.item(inputs, item)
        content = None if found is None else schemas.Explained.model_validate(found.as_json())
        return schemas.ExplainAnswer(user_id=user_id, explanation=content, **self._about(user))
