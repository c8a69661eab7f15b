"""The interface of all models: fit on rows, predict from inputs, export to a folder and restore from it."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from features.catalogue import Catalogue
from shoplens.errors import ModelError
from shoplens.params import LoopParams, NetworkParams
from training.rows.inputs import Inputs
from training.rows.rowset import RowSet, Task

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """The parameters of a model: everything that it needs besides data."""

    task: Task
    network: NetworkParams
    loop: LoopParams
    loss: str
    seed: int
    sampled_negatives: int = 4096


class Model(ABC):
    """A model of one task.

    Attributes:
        name: Its name in params.yaml.
        tasks: The tasks that it supports.
        reads_history: Whether it reads recent events in addition to tabular features.
        history: The number of recent events that it was built for; None if any number will do.
    """

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]]
    reads_history: ClassVar[bool] = True
    history: int | None = None

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

    @abstractmethod
    def predict(self, inputs: Inputs) -> FloatArray:
        """Return probabilities, (rows,), or scores, (rows, catalogue size), with -inf at indexes 0 and 1."""

    @abstractmethod
    def export(self, folder: Path) -> dict[str, Any]:
        """Write the learned state to `folder`, the same bytes for the same model; return what `restore` needs."""

    @abstractmethod
    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Restore the state that `export` wrote to `folder` and returned as `kept`."""

    def parameter_count(self) -> int | None:
        """Return the number of learned parameters, None if that is not a meaningful size."""
        return None
