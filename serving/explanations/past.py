"""Explanations of answers at any time in the data, from the outputs of the stages, without an online store."""

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.catalogue import Catalogue
from features.histories import UserLog
from shoplens.errors import ModelError
from shoplens.files import read_json
from shoplens.params import Params
from shoplens.settings import Settings
from training.datasets import inputs_at
from training.explanations.answer import Explainer
from training.explanations.background import read_background
from training.models import artifact
from training.rows import Task


def load_explainer(package: Path) -> Explainer:
    """Return the explainer of a package's models."""
    purchase, next_item = (
        artifact.load(folder) if folder.is_dir() else None
        for folder in (package / "models/purchase", package / "models/next_item")
    )
    return Explainer(purchase, next_item, None if purchase is None else read_background(package))


def explain_past(
    user: str, item: str | None, as_of: datetime | None, params: Params, settings: Settings
) -> dict[str, Any]:
    """Explain the purchase, or the rank of an item, for a user as of a time; return JSON-serializable values.

    Raises:
        ModelError: there is no package, no such item, or no event of the user before `as_of`.
    """
    outs = settings.outs_dir
    explainer = load_explainer(outs / "package")
    if not Catalogue.load(outs / "package/catalogue.parquet").frame.equals(
        Catalogue.load(outs / "features/catalogue.parquet").frame
    ):
        raise ModelError(
            "outs/package: must be built from outs/features; their catalogues differ. Run `dvc repro package`"
        )
    index = None if item is None else explainer.item_index(item)
    task: Task = "purchase" if item is None else "next_item"
    dataset = read_json(outs / "validated/dataset.json")
    time = as_of or datetime.fromisoformat(dataset["high_water"])
    log = UserLog.load(outs / "features/event_log")
    keys = pl.DataFrame({"user_id": [user], "time": [time]}, schema_overrides={"time": pl.Datetime("us", "UTC")})
    inputs = inputs_at(task, keys, log, params, outs)
    if inputs.history.lengths[0] == 0:
        raise ModelError(f"--user: must have events before {time:%Y-%m-%d %H:%M} UTC; received {user!r}")
    found = explainer.purchase(inputs) if index is None else explainer.item(inputs, index)
    return {"user_id": user, "as_of": time.isoformat(), **found.as_json()}
