"""The commands `shoplens train`, `shoplens compare`, `shoplens tune` and `shoplens benchmark`."""

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
    from training.datasets import build_rows
    from training.evaluate import evaluate_model
    from training.fit import recipe_of, train_model
    from training.loop import prepare_device
    from training.models import artifact
    from training.resamples import Resamples

    _require_model(model, task)
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
    for name, part in (("test", rows.test), ("as served", rows.served)):
        if part is None:
            continue
        typer.echo(f"{name}, {len(part):,} rows")
        found = evaluate_model(trained, part, Resamples(part.user_id, params.evaluate.resamples, params.seed))
        for metric, interval in found.intervals().items():
            typer.echo(f"  {metric:20} {interval}")
    typer.echo(f"saved to {folder}")


def _require_model(model: str, task: Literal["purchase", "next_item"]) -> None:
    from shoplens.errors import SettingsError
    from training.models.contract import model_names

    if model not in model_names(task):
        raise SettingsError(f"--model: must be one of {', '.join(model_names(task))} for {task}; received {model!r}")


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


def tune(
    task: Annotated[Literal["purchase", "next_item"], typer.Argument(help="The prediction task.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study; those that have ended count.")] = 30,
    model: Annotated[str | None, typer.Option(help="Name of the model. Default: that of params.yaml.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best parameters to params.yaml.")] = False,
) -> None:
    """Search the parameters of a model on the validation rows in outs/; print the best as a patch of params.yaml."""
    import difflib

    from features.catalogue import Catalogue
    from shoplens.errors import SettingsError
    from shoplens.files import whole_file
    from training.comparison import data_and_code
    from training.datasets import build_rows
    from training.evaluate import MAIN_METRIC
    from training.loop import prepare_device
    from training.tune import Tuning, split_validation
    from training.tune import tune as run

    settings = load_settings()
    path = settings.root / "params.yaml"
    params, text = load_params(path), path.read_text(encoding="utf-8")
    name = model or getattr(params.train, task).model
    _require_model(name, task)
    prepare_device(params.train.device)
    rows = split_validation(build_rows(task, params, settings.outs_dir))
    catalogue = Catalogue.load(settings.outs_dir / "features/catalogue.parquet")
    digest, folder = data_and_code(settings.outs_dir), settings.var_dir / "tune"
    found = run(Tuning(task, name, text, rows, catalogue, digest, settings.root, folder), trials)
    typer.echo(
        f"{found.complete} trials complete, {found.pruned} pruned or diverged; see `dvc exp show --only-changed`"
    )
    before = "diverged" if found.present is None else f"{found.present:.4f}"
    typer.echo(f"{MAIN_METRIC[task]}: best {found.best:.4f}; initial parameters {before}")
    old, new = (one.splitlines(keepends=True) for one in (text, found.text))
    patch = "".join(difflib.unified_diff(old, new, "a/params.yaml", "b/params.yaml"))
    typer.echo(patch or "params.yaml already has the best parameters")
    if apply and patch and path.read_text(encoding="utf-8") != text:
        raise SettingsError("params.yaml: has changed since the search began. Apply the patch above by hand")
    if apply and patch:
        with whole_file(path) as work:
            work.write_text(found.text, encoding="utf-8")
        typer.echo(f"written to {path}")


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
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of another default, as dropout=0.5 or rows=128; can be repeated."),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(help="host:port of each process that trains, separated by commas; requires --worker."),
    ] = None,
    worker: Annotated[int | None, typer.Option(min=0, help="Which of --workers this process is, from 0.")] = None,
) -> None:
    """Train a sequence model on a public file and rank the whole catalogue, by the protocols of the literature."""
    # Twice as fast. DVC's stages leave it off, because their bytes must not depend on the processor's instructions.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    from shoplens.errors import SettingsError
    from training import benchmark as run
    from training.models.sequence.presets import preset as size_of
    from training.models.sequence.workers import Workers

    if (workers is None) != (worker is None):
        raise SettingsError("--workers and --worker: pass both to train in several processes, or neither")
    if workers is not None and (keep is not None or max_seconds is not None):
        raise SettingsError(
            "--keep, --max-seconds: must be left out with --workers, whose processes could stop or continue at "
            "different steps"
        )
    size, training = run.changed(size_of(preset), run.training_of(epochs, max_seconds), changes or ())
    together = Workers(tuple(workers.split(",")), worker) if workers and worker is not None else None
    settings = run.Settings(
        model=model,
        size=size,
        training=training,
        time_aware=time_aware,
        mask_seen=mask_seen,
        seeds=tuple(range(seeds)),
        precision=precision,
        references=references,
        workers=together,
    )
    split = run.read_split(file, protocol, test)
    run.run(split, protocol, settings, json_file, folder=keep, log=lambda line: typer.echo(line, err=True))
    typer.echo(f"written to {json_file}")
