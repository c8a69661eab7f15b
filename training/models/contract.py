"""The interface of all models (fit on rows, predict, export to a folder, restore), and the models by name."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from features.catalogue import Catalogue
from shoplens.errors import ModelError
from shoplens.models import MODELS
from shoplens.params import CandidateParams, LoopParams, NetworkParams, SequenceLoopParams, SequenceNetworkParams
from training.models.ranking import Ranking
from training.models.space import Space
from training.rows import Inputs, RowSet, Task

FloatArray = NDArray[np.float32]
# Called while a model trains with the share of the training that is done, in (0, 1], and a figure of the validation
# rows: larger is better, and comparable between all values of the model's space. What it raises ends the training.
Report = Callable[[float, float], None]


@dataclass(frozen=True)
class Recipe:
    """The parameters of a model: everything that it needs besides data."""

    task: Task
    network: SequenceNetworkParams | NetworkParams
    loop: SequenceLoopParams | LoopParams
    seed: int
    loss: str = "binary_crossentropy"
    candidates: CandidateParams | None = None
    members: int = 1
    blend: tuple[str, ...] = ("boosted_trees", "hazard_network")
    false_alarm_cost: float = 1.0

    @property
    def sequence(self) -> tuple[SequenceNetworkParams, SequenceLoopParams]:
        """The network and loop of a purchase model."""
        if isinstance(self.network, SequenceNetworkParams) and isinstance(self.loop, SequenceLoopParams):
            return self.network, self.loop
        raise ModelError(f"train.{self.task}: must have the network and loop of a purchase model; it has others")


class Model(ABC):
    """A model of one task.

    Attributes:
        name: Its name in params.yaml.
        tasks: The tasks that it supports.
        reads_history: Whether it reads the history.
        space: What `shoplens tune` may change of its parameters.
        report: What `fit` calls after each epoch, of a model that learns in epochs.
        threshold: The probability from which it predicts a purchase; chosen on validation rows after `fit`.
    """

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]]
    reads_history: bool = True
    space: ClassVar[Space] = {}
    report: Report | None = None
    threshold: float = 0.5

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        if recipe.task not in self.tasks:
            raise ModelError(
                f"model: {self.name} does not support task {recipe.task}; it supports {', '.join(sorted(self.tasks))}"
            )
        self.recipe = recipe
        self.catalogue = catalogue

    @abstractmethod
    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Learn from `train`, using `validation` for early stopping; write any learning curves to the folder `live`."""

    def predict(self, inputs: Inputs) -> FloatArray:
        """Return the probability of a purchase within the horizon, (rows,): models of task `purchase`."""
        raise ModelError(f"model: {self.name} does not predict probabilities")

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """Return the k items that are most likely next, ranked over the full catalogue: models of task `next_item`."""
        raise ModelError(f"model: {self.name} does not recommend items")

    def place(self, inputs: Inputs, item: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return the score of one item and its rank from 1, each (rows,): models of task `next_item`.

        Where the model does not rank the item, it comes last, with the lowest score of the row.
        """
        found = self.recommend(inputs, self.catalogue.size)
        ranked = (found.items > 0).sum(axis=1)
        hit = found.items == item
        place = np.where(hit.any(axis=1), hit.argmax(axis=1), ranked)
        last = np.minimum(place, np.maximum(ranked - 1, 0))
        return np.take_along_axis(found.scores, last[:, None], axis=1)[:, 0], place + 1

    @abstractmethod
    def export(self, folder: Path) -> dict[str, Any]:
        """Write the learned state to `folder`, the same bytes for the same model; return what `restore` needs."""

    @abstractmethod
    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Restore the state that `export` wrote to `folder` and returned as `kept`."""

    def parameter_count(self) -> int | None:
        """Return the number of learned parameters, None if that is not a meaningful size."""
        return None


def model_names(task: Task | None = None) -> tuple[str, ...]:
    """Return the names of all models, or of those that support `task`, from simple to deep."""
    return tuple(name for one, names in MODELS.items() if task in (None, one) for name in names)


def model_class(name: str) -> type[Model]:
    """Import and return the class of a model.

    Raises:
        ModelError: no model has this name.
    """
    targets = {name: target for names in MODELS.values() for name, target in names.items()}
    if name not in targets:
        raise ModelError(f"model: must be one of {', '.join(targets)}; received {name!r}")
    module, _, attribute = targets[name].partition(":")
    found: type[Model] = getattr(importlib.import_module(module), attribute)
    return found
