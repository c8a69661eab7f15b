"""The commands `shoplens train` and `shoplens compare`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from shoplens.params import load_params
from shoplens.settings import load_settings


def train(
    task: Annotated[Literal["purchase", "next_item"], typer.Argument(help="The prediction task.")],
    model: Annotated[str, typer.Option(help="Name of the model, as in params.yaml.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the epochs in params.yaml.")] = None,
) -> None:
    """Train one model on the rows in outs/, evaluate it on the held-out rows, and save it to var/models."""
    from dataclasses import replace

    from features.catalogue import Catalogue
    from shoplens.errors import SettingsError
    from training.datasets import build_rows
    from training.evaluate import evaluate_model
    from training.fit import recipe_of, train_model
    from training.loop import prepare_device
    from training.models import artifact
    from training.models.contract import model_names
    from training.resamples import Resamples

    if model not in model_names(task):
        raise SettingsError(f"--model: must be one of {', '.join(model_names(task))} for {task}; received {model!r}")
    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    prepare_device(params.train.device)
    recipe = recipe_of(task, params)
    if epochs is not None:
        recipe = replace(recipe, loop=recipe.loop.model_copy(update={"epochs": epochs}))
    rows = build_rows(recipe.task, params, settings.outs_dir)
    catalogue = Catalogue.load(settings.outs_dir / "features/catalogue.parquet")
    trained = train_model(model, recipe, rows, catalogue)
    folder = settings.var_dir / "models" / task / model
    artifact.save(trained, rows.train.inputs.names, rows.learned_until, folder)
    resamples = Resamples(rows.test.user_id, params.evaluate.resamples, params.seed)
    found = evaluate_model(trained, rows.test, resamples, params.evaluate.threshold)
    for metric, interval in found.intervals().items():
        typer.echo(f"{metric:20} {interval}")
    typer.echo(f"saved to {folder}")


def compare(
    mapping: Annotated[str | None, typer.Option(help="Mapping of another source; requires --source.")] = None,
    source: Annotated[str | None, typer.Option(help="File or folder of another source; requires --mapping.")] = None,
) -> None:
    """Train every model on one dataset and write a comparison table to var/compare."""
    from shoplens.errors import SettingsError
    from training.comparison import compare as run
    from training.comparison import prepare_source

    if (mapping is None) != (source is None):
        raise SettingsError("--mapping and --source: pass both to use another source, or neither to use outs/")
    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    target = settings.var_dir / "compare" / Path(mapping or params.data.mapping).stem
    if mapping is not None and source is not None:
        params, settings = prepare_source(params, settings, mapping, source, target)
    page = run(params, settings, target)
    typer.echo(page.read_text(encoding="utf-8"))
    typer.echo(f"written to {page}")
