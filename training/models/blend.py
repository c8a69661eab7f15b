"""The main models of purchases and of flat tables: a network and boosted trees, averaged and calibrated.

The two err differently: a network is smooth, trees are not. The mean of their logits, with equal weights, beats both on
the validation rows. One more line on those rows, logit' = slope * logit + intercept (Platt, 1999), moves the
probabilities to the newest weeks' share of buyers; it changes no ranking.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue
from training.calibration import Platt
from training.models.baselines import BoostedTrees
from training.models.contract import FloatArray, Model, Recipe
from training.models.hazard_network import HazardNetwork
from training.models.piecewise import PiecewiseNetwork
from training.models.tuned_trees import TunedTrees
from training.rows import Inputs, RowSet


class HazardBlend(Model):
    """The calibrated mean of `HazardNetwork` and `BoostedTrees`."""

    name = "hazard_blend"
    tasks = frozenset({"purchase"})
    reads_history = False
    parts: ClassVar[tuple[type[HazardNetwork], type[BoostedTrees]]] = (HazardNetwork, BoostedTrees)

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        super().__init__(recipe, catalogue)
        network, trees = self.parts
        self._network, self._trees = network(recipe, catalogue), trees(recipe, catalogue)
        self._platt = Platt()

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Train both on the training rows, and calibrate their mean on the validation rows."""
        self._trees.fit(train, validation, None)
        self._network.fit(train, validation, live)
        self._platt = Platt.fit(self._logits(validation.inputs), validation.labels)

    @property
    def trained(self) -> tuple[Model, ...]:
        """The two models, which also predict by themselves."""
        return self._network, self._trees

    def _logits(self, inputs: Inputs) -> NDArray[np.float64]:
        return (self._network.logits(inputs) + self._trees.logits(inputs)) / 2

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return self._platt.probability(self._logits(inputs))

    def export(self, folder: Path) -> dict[str, Any]:
        """Write both models."""
        both = {one.name: one.export(folder) for one in (self._network, self._trees)}
        return {**both, "platt": self._platt.as_json()}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load both models."""
        for one in (self._network, self._trees):
            one.restore(folder, kept[one.name])
        self._platt = Platt(**kept["platt"])

    def parameter_count(self) -> int:
        """Return the number of weights of the networks and nodes of the trees."""
        return self._network.parameter_count() + self._trees.parameter_count()


class TableBlend(HazardBlend):
    """The calibrated mean of `PiecewiseNetwork` and `TunedTrees`: the main model of a flat table."""

    name = "table_blend"
    parts = (PiecewiseNetwork, TunedTrees)
