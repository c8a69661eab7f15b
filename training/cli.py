"""The commands `shoplens train`, `shoplens compare` and `shoplens benchmark`."""

import os
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
    found = evaluate_model(trained, rows.test, resamples)
    for metric, interval in found.intervals().items():
        typer.echo(f"{metric:20} {interval}")
    typer.echo(f"saved to {folder}")


def compare(
    mapping: Annotated[str | None, typer.Option(help="Mapping of another source; requires --source.")] = None,
    source: Annotated[str | None, typer.Option(help="File or folder of another source; requires --mapping.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model to compare; can be repeated. Default: all.")] = None,
) -> None:
    """Train models on one dataset and write a comparison table to var/compare."""
    from shoplens.errors import SettingsError
    from training.comparison import compare as run
    from training.comparison import prepare_source
    from training.models.contract import model_names

    unknown = sorted(set(model or ()) - set(model_names()))
    if unknown:
        raise SettingsError(f"--model: must be one of {', '.join(model_names())}; received {', '.join(unknown)}")
    if (mapping is None) != (source is None):
        raise SettingsError("--mapping and --source: pass both to use another source, or neither to use outs/")
    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    target = settings.var_dir / "compare" / Path(mapping or params.data.mapping).stem
    if mapping is not None and source is not None:
        params, settings = prepare_source(params, settings, mapping, source, target)
    page = run(params, settings, target, model or ())
    typer.echo(page.read_text(encoding="utf-8"))
    typer.echo(f"written to {page}")


def benchmark(
    file: Annotated[Path, typer.Argument(help="`user item [time]` text, or JSON Lines of item lists; also .gz.")],
    json_file: Annotated[Path, typer.Option("--json", help="Where the figures are written.")],
    protocol: Annotated[Literal["leave-one-out", "sessions"], typer.Option(help="How FILE is cut and scored.")],
    model: Annotated[str, typer.Option(help="The sequence model.")] = "sasrec",
    preset: Annotated[str, typer.Option(help="Its size: tiny, small, base or large.")] = "small",
    time_aware: Annotated[bool, typer.Option("--time-aware", help="The moment to predict is known.")] = False,
    mask_seen: Annotated[
        bool | None,
        typer.Option(help="Rank without the user's earlier items. Default: yes for leave-one-out, no for sessions."),
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Sessions to test on; default: the last tenth of FILE.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train this many times, with seeds 0, 1, …")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the events, at most.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=1, help="Stop each training run after this time.")] = None,
    precision: Annotated[
        Literal["float32", "mixed_bfloat16", "mixed_float16"], typer.Option(help="Keras dtype policy.")
    ] = "float32",
    references: Annotated[bool, typer.Option(help="Evaluate counts and neighbours on the same queries.")] = True,
    keep: Annotated[Path | None, typer.Option(help="Folder for checkpoints; an interrupted benchmark resumes.")] = None,
) -> None:
    """Train a sequence model on a public file and rank the whole catalogue, by the protocols of the literature."""
    # Twice as fast. DVC's stages leave it off, because their bytes must not depend on the processor's instructions.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    from training import benchmark as run
    from training.models.sequence.presets import preset as size_of

    settings = run.Settings(
        model=model,
        size=size_of(preset),
        training=run.training_of(epochs, max_seconds),
        time_aware=time_aware,
        mask_seen=mask_seen,
        seeds=tuple(range(seeds)),
        precision=precision,
        references=references,
    )
    split = run.read_split(file, protocol, test)
    run.run(split, protocol, settings, json_file, folder=keep, log=lambda line: typer.echo(line, err=True))
    typer.echo(f"written to {json_file}")
