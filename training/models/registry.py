"""All models by name; the module of a model is imported on demand."""

import importlib

from shoplens.errors import ModelError
from training.models.contract import Model
from training.rows.rowset import Task

_MODELS: dict[str, tuple[str, frozenset[Task]]] = {
    "base_rate": ("training.models.base_rate:BaseRate", frozenset({"purchase"})),
    "popularity": ("training.models.popularity:Popularity", frozenset({"next_item"})),
    "personal_frequency": (
        "training.models.personal_frequency:PersonalFrequency",
        frozenset({"purchase", "next_item"}),
    ),
    "decision_tree": ("training.models.trees:DecisionTree", frozenset({"purchase"})),
    "boosted_trees": ("training.models.trees:BoostedTrees", frozenset({"purchase"})),
    "cnn": ("training.models.cnn:Cnn", frozenset({"purchase", "next_item"})),
    "lstm": ("training.models.lstm:Lstm", frozenset({"purchase", "next_item"})),
    "transformer": ("training.models.transformer:Transformer", frozenset({"purchase", "next_item"})),
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
