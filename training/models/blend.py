"""The main purchase model: the hazard network and boosted trees, averaged and calibrated.

The two err differently: a network is smooth, trees are not. The mean of their logits, with equal weights, beats both on
the validation rows. One more line on those rows, logit' = slope * logit + intercept (Platt, 1999), moves the
probabilities to the newest weeks' share of buyers; it changes no ranking.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue
from training.calibration import Platt
from training.models.baselines import BoostedTrees
from training.models.contract import FloatArray, Model, Recipe
from training.models.hazard_network import HazardNetwork
from training.rows import Inputs, RowSet


class HazardBlend(Model):
    """The calibrated mean of `HazardNetwork` and `BoostedTrees`.

    Attributes:
        network: The one.
        trees: The other.
        platt: What calibrates the mean of their logits.
    """

    name = "hazard_blend"
    tasks = frozenset({"purchase"})
    reads_history = False

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        super().__init__(recipe, catalogue)
        self.network, self.trees = HazardNetwork(recipe, catalogue), BoostedTrees(recipe, catalogue)
        self.platt = Platt()

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Train both on the training rows, and calibrate their mean on the validation rows."""
        self.trees.fit(train, validation, None)
        self.network.fit(train, validation, live)
        self.platt = Platt.fit(self._logits(validation.inputs), validation.labels)

    def _logits(self, inputs: Inputs) -> NDArray[np.float64]:
        return (self.network.logits(inputs) + self.trees.logits(inputs)) / 2

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return self.platt.probability(self._logits(inputs))

    def export(self, folder: Path) -> dict[str, Any]:
        """Write both models."""
        both = {one.name: one.export(folder) for one in (self.network, self.trees)}
        return {**both, "platt": self.platt.as_json()}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load both models."""
        for one in (self.network, self.trees):
            one.restore(folder, kept[one.name])
        self.platt = Platt(**kept["platt"])

    def parameter_count(self) -> int:
        """Return the number of weights of the networks and nodes of the trees."""
        return self.network.parameter_count() + self.trees.parameter_count()
