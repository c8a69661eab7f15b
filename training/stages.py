"""The stages `train_purchase`, `train_next_item`, `evaluate` and `explain`; each imports only what it needs."""

from shoplens.params import Params
from shoplens.settings import Settings


def train_purchase(params: Params, settings: Settings) -> None:
    """Train the purchase model and its baselines, and write them to outs/purchase."""
    from training.fit import fit_task

    fit_task("purchase", params, settings)


def train_next_item(params: Params, settings: Settings) -> None:
    """Train the next-item model and its baselines, and write them to outs/next_item."""
    from training.fit import fit_task

    fit_task("next_item", params, settings)


def evaluate(params: Params, settings: Settings) -> None:
    """Evaluate both models and their baselines; see `training.evaluation.stage`."""
    from training.evaluation.stage import evaluate as run

    run(params, settings)


def explain(params: Params, settings: Settings) -> None:
    """Explain the models; see `training.explanation.stage`."""
    from training.explanation.stage import explain as run

    run(params, settings)
