"""The stages `train_purchase` and `train_next_item`: the main model, its baselines and the held-out rows."""

from pathlib import Path

from features.catalogue import Catalogue
from shoplens.files import whole_folder
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.datasets import Rows, build_rows
from training.models import artifact
from training.models.contract import Model, Recipe, model_class
from training.rows import Task
from training.threshold import cheapest_threshold


def recipe_of(task: Task, params: Params) -> Recipe:
    """Return the parameters of a model for `task`."""
    if task == "purchase":
        own = params.train.purchase
        return Recipe(
            task,
            own.network,
            own.loop,
            params.seed,
            own.loss,
            members=own.members,
            blend=own.blend,
            false_alarm_cost=params.evaluate.false_alarm_cost,
        )
    item = params.train.next_item
    return Recipe(task, item.network, item.loop, params.seed, candidates=item.candidates, members=item.members)


def train_model(name: str, recipe: Recipe, rows: Rows, catalogue: Catalogue, live: Path | None = None) -> Model:
    """Train one model and choose its threshold; learning curves are written to the folder `live`, if given."""
    model = model_class(name)(recipe, catalogue)
    model.fit(rows.train, rows.validation, live)
    if recipe.task == "purchase":
        score = model.predict(rows.validation.inputs)
        model.threshold = cheapest_threshold(rows.validation.labels, score, recipe.false_alarm_cost)
    return model


def train_purchase(params: Params, settings: Settings) -> None:
    """Train the purchase model and its baselines, and write them to outs/purchase."""
    _fit_task("purchase", params, settings)


def train_next_item(params: Params, settings: Settings) -> None:
    """Train the next-item model and its baselines, and write them to outs/next_item."""
    _fit_task("next_item", params, settings)


def _fit_task(task: Task, params: Params, settings: Settings) -> None:
    from training.loop import prepare_device

    prepare_device(params.train.device)
    own = params.train.purchase if task == "purchase" else params.train.next_item
    rows = build_rows(task, params, settings.outs_dir)
    catalogue = Catalogue.load(settings.outs_dir / "features/catalogue.parquet")
    console.print(
        f"{task}: {len(rows.train):,} training rows, {len(rows.validation):,} validation, {len(rows.test):,} test"
    )
    recipe, names = recipe_of(task, params), rows.train.inputs.names
    with whole_folder(settings.outs_dir / task) as out:
        for name in own.baselines:
            baseline = train_model(name, recipe, rows, catalogue)
            artifact.save(baseline, names, rows.learned_until, out / "baselines" / name)
        model = train_model(own.model, recipe, rows, catalogue, out / "live")
        artifact.save(model, names, rows.learned_until, out / "model")
        if task == "next_item":
            rows.train.inputs.item_tables.latest.write(out / "items.npz")
        rows.validation.save(out / "rows/validation")
        rows.test.save(out / "rows/test")
