"""All models by name; the module of a model is imported on demand."""

import importlib

from shoplens.errors import ModelError
from training.models.contract import Model
from training.rows.rowset import Task

_PURCHASE: frozenset[Task] = frozenset({"purchase"})
_NEXT_ITEM: frozenset[Task] = frozenset({"next_item"})
_MODELS: dict[str, tuple[str, frozenset[Task]]] = {
    "base_rate": ("training.models.baselines:BaseRate", _PURCHASE),
    "popularity": ("training.models.baselines:Popularity", _NEXT_ITEM),
    "personal_frequency": ("training.models.baselines:PersonalFrequency", _PURCHASE | _NEXT_ITEM),
    "decision_tree": ("training.models.trees:DecisionTree", _PURCHASE),
    "boosted_trees": ("training.models.trees:BoostedTrees", _PURCHASE),
    "cnn": ("training.models.cnn:Cnn", _PURCHASE | _NEXT_ITEM),
    "lstm": ("training.models.lstm:Lstm", _PURCHASE | _NEXT_ITEM),
    "transformer": ("training.models.transformer:Transformer", _PURCHASE | _NEXT_ITEM),
}


def model_names(task: Task | None = None) -> tuple[str, ...]:
    """Return the names of all models, or of those that support `task`, from simple to deep."""
    return tuple(name for name, (_, tasks) in _MODELS.items() if task is None or task in tasks)


def model_class(name: str) -> type[Model]:
    """Import and return the class of a model.

    Raises:
        ModelError: no model has this name.
    """
    if name not in _MODELS:
        raise ModelError(f"model: must be one of {', '.join(_MODELS)}; received {name!r}")
    module, _, attribute = _MODELS[name][0].partition(":")
    found: type[Model] = getattr(importlib.import_module(module), attribute)
    return found
