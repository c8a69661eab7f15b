"""The stages of `dvc.yaml`: the one table from a stage's name to the function that does its work.

Each function takes the parameters and the settings, reads the outs of the stages before it and writes its own folder
below `outs/`, whole or not at all.
"""

from typing import Annotated

import typer

from shoplens.errors import SettingsError
from shoplens.params import load_params
from shoplens.settings import load_settings
from shoplens.stage import stage

STAGES: dict[str, str] = {
    "fetch": "events.stages:fetch",  # -> outs/raw
    "ingest": "events.stages:ingest",  # -> outs/events
    "validate": "expectations.stages:validate",  # -> outs/validated
    "features": "features.stages:features",  # -> outs/features
    "train_purchase": "training.fit:train_purchase",  # -> outs/purchase
    "train_next_item": "training.fit:train_next_item",  # -> outs/next_item
    "evaluate": "training.evaluation.stage:evaluate",  # -> outs/evaluation
    "explain": "training.explanation.stage:explain",  # -> outs/explanation
    "package": "serving.package:package",  # -> outs/package
}


def stage_command(name: Annotated[str, typer.Argument(help="One of: " + ", ".join(STAGES))]) -> None:
    """Run one stage: the only writer of its outs, ending with whatever started it."""
    from shoplens.cli import load

    if name not in STAGES:
        raise SettingsError(f"stage: must be one of {', '.join(STAGES)}; received {name!r}")
    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    with stage(name, settings):
        load(STAGES[name])(params, settings)
