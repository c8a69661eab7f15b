"""The one contract of all models: fit on rows, predict inputs, keep in a folder, come back from it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue
from shoplens.errors import ModelError
from shoplens.params import LoopParams, NetworkParams
from training.rows.inputs import Inputs
from training.rows.rowset import RowSet, Task

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """All that a model is told before it sees a row."""

    task: Task
    network: NetworkParams
    loop: LoopParams
    loss: str
    seed: int
    sampled_negatives: int = 4096


class Model(ABC):
    """A model of one task.

    Attributes:
        name: As in params.yaml.
        tasks: What it can predict; for another task it is n/a.
        reads_history: Whether it reads the recent events, and not the tabular features alone.
        history: Events of a history that it was built for; None where any number will do.
    """

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]]
    reads_history: ClassVar[bool] = True
    history: int | None = None

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        if recipe.task not in self.tasks:
            raise ModelError(
                f"model: {self.name} cannot do task {recipe.task}; it does {', '.join(sorted(self.tasks))}"
            )
        self.recipe = recipe
        self.catalogue = catalogue

    @abstractmethod
    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Learn from `train`; `validation` stops early; curves go to the folder `live`, where there are any."""

    @abstractmethod
    def predict(self, inputs: Inputs) -> FloatArray:
        """Return (rows,) probabilities, or (rows, catalogue size) scores with -inf at the indexes 0 and 1."""

    @abstractmethod
    def export(self, folder: Path) -> dict[str, Any]:
        """Write what was learned into `folder`, the same bytes for the same model; return what `restore` needs."""

    @abstractmethod
    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Read what `export` wrote."""

    def parameter_count(self) -> int | None:
        """Return how many numbers were learned, where that is a meaningful size."""
        return None
