"""A tuning that takes milliseconds a trial: logistic regression by gradient descent, on the rows of the tiny world.

Run as a program, it tunes in a project folder and kills itself halfway through a trial.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from features.catalogue import Catalogue
from shoplens.errors import DivergedError
from shoplens.models import MODELS
from tests.tiny_world import make_rows
from training.datasets import Protocol, Rows
from training.models.contract import FloatArray, Model
from training.models.space import Between, Space
from training.rows import Inputs, RowSet
from training.tune import Found, Tuning, split_validation, tune

TARGET = "tests.training.small_tuning:Logistic"


class Logistic(Model):
    """P(purchase) = sigmoid(a + b * weekly orders)."""

    name = "logistic"
    tasks = frozenset({"purchase"})
    space: ClassVar[Space] = {"loop.epochs": Between(3, 9), "loop.learning_rate": Between(0.001, 2.0, log=True)}
    fits: ClassVar[int] = 0
    killed_in: ClassVar[int | None] = None

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        loop = self.recipe.loop
        x, self.weights = self._features(train.inputs), np.zeros(2)
        for epoch in range(1, loop.epochs + 1):
            error = 1 / (1 + np.exp(-x @ self.weights)) - train.labels
            self.weights = self.weights - loop.learning_rate * 4 * x.T @ error / len(x)
            if np.abs(self.weights).max() > 100:
                raise DivergedError("the weights are far too large")
            if self.report is not None:
                self.report(epoch / loop.epochs, -self._loss(validation))
            if Logistic.fits == Logistic.killed_in and epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        Logistic.fits += 1

    def _features(self, inputs: Inputs) -> Any:
        return np.stack([np.ones(len(inputs)), inputs.tabular[:, 0] - 1], axis=1)

    def _loss(self, rows: RowSet) -> float:
        score = np.clip(self.predict(rows.inputs), 1e-6, 1 - 1e-6)
        return -float(np.mean(np.where(rows.labels > 0, np.log(score), np.log(1 - score))))

    def predict(self, inputs: Inputs) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-self._features(inputs) @ self.weights)), dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        return {"weights": self.weights.tolist()}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        self.weights = np.array(kept["weights"])


def tuning(root: Path, catalogue: Catalogue) -> Tuning:
    until = np.datetime64("2024-04-04", "us")  # a week after the last row
    rows = Rows(*(make_rows("purchase", 400, seed) for seed in (1, 2, 3)), until, Protocol("weekly_active", 7, 7))
    text = (root / "params.yaml").read_text()
    return Tuning("purchase", "logistic", text, split_validation(rows), catalogue, "data", root, root / "var/tune")


def run(root: Path, catalogue: Catalogue, trials: int) -> Found:
    return tune(tuning(root, catalogue), trials)


if __name__ == "__main__":
    from tests.tiny_world import tiny_catalogue
    from tests.training import small_tuning as module  # not this one, which is __main__

    MODELS["purchase"]["logistic"] = TARGET
    module.Logistic.killed_in = 2
    run(Path(sys.argv[1]), tiny_catalogue(), 4)
