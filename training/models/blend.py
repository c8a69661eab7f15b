"""The main model of purchases and of flat tables: networks and boosted trees, averaged and calibrated.

They err differently: trees cut, a network over features is smooth, and one over days sees what no feature keeps. The
mean of their logits, with equal weights, beats each of them on the validation rows. One more line on those rows, logit'
= slope * logit + intercept (Platt, 1999), moves the probabilities to the newest weeks' share of buyers; it changes no
ranking.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue
from training.calibration import Platt
from training.models.baselines import BoostedTrees
from training.models.contract import FloatArray, Model, Recipe
from training.models.daily_network import DailyNetwork
from training.models.hazard_network import HazardNetwork
from training.models.piecewise import PiecewiseNetwork
from training.models.tuned_trees import TunedTrees
from training.rows import Inputs, RowSet

_PARTS: dict[str, type[BoostedTrees | HazardNetwork | DailyNetwork]] = {
    one.name: one for one in (BoostedTrees, HazardNetwork, DailyNetwork, TunedTrees, PiecewiseNetwork)
}


class HazardBlend(Model):
    """The calibrated mean of the models in `Recipe.blend`.

    Attributes:
        parts: These models.
        platt: What calibrates the mean of their logits.
    """

    name = "hazard_blend"
    tasks = frozenset({"purchase"})
    space = HazardNetwork.space

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        super().__init__(recipe, catalogue)
        self.parts: list[BoostedTrees | HazardNetwork | DailyNetwork] = []
        self.reads_history = DailyNetwork.name in recipe.blend
        self.platt = Platt()

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Train every part on the training rows, and calibrate their mean on the validation rows."""
        self.parts = [_PARTS[name](self.recipe, self.catalogue) for name in self.recipe.blend]
        for one in self.parts:
            network = isinstance(one, HazardNetwork)
            one.report = self.report if network else None
            one.fit(train, validation, live if network else None)
        self.platt = Platt.fit(self._logits(validation.inputs), validation.labels)

    def _logits(self, inputs: Inputs) -> NDArray[np.float64]:
        return np.asarray(np.mean([one.logits(inputs) for one in self.parts], axis=0), dtype=np.float64)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return self.platt.probability(self._logits(inputs))

    def export(self, folder: Path) -> dict[str, Any]:
        """Write each model to a folder of its own: two kinds of trees name their files alike."""
        kept = {}
        for one in self.parts:
            (folder / one.name).mkdir()
            kept[one.name] = one.export(folder / one.name)
        return {"parts": kept, "platt": self.platt.as_json()}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load all models."""
        self.parts = [_PARTS[name](self.recipe, self.catalogue) for name in kept["parts"]]
        for part in self.parts:
            part.restore(folder / part.name, kept["parts"][part.name])
        self.platt = Platt(**kept["platt"])

    def parameter_count(self) -> int:
        """Return the number of weights of the networks and nodes of the trees."""
        return sum(one.parameter_count() for one in self.parts)
