"""Training of one task: the main model, its baselines, and the rows on which they are evaluated."""

from pathlib import Path

from features.catalogue import Catalogue
from shoplens.files import whole_folder
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.models import artifact
from training.models.contract import Model, Recipe
from training.models.registry import model_class
from training.rows.build import Rows, build_rows
from training.rows.rowset import Task


def recipe_of(task: Task, params: Params) -> Recipe:
    """Return the parameters of a model for `task`."""
    if task == "purchase":
        own = params.train.purchase
        return Recipe(task, own.network, own.loop, own.loss, params.seed)
    item = params.train.next_item
    return Recipe(task, item.network, item.loop, item.loss, params.seed, item.sampled_negatives)


def train_model(name: str, recipe: Recipe, rows: Rows, catalogue: Catalogue, live: Path | None = None) -> Model:
    """Train one model; learning curves are written to the folder `live`, if given."""
    model = model_class(name)(recipe, catalogue)
    model.fit(rows.train, rows.validation, live)
    return model


def fit_task(task: Task, params: Params, settings: Settings) -> None:
    """Build the rows of `task`, train its model and baselines, and write outs/TASK."""
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
        (out / "rows").mkdir()
        rows.validation.save(out / "rows/validation.parquet")
        rows.test.save(out / "rows/test.parquet")
