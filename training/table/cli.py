"""The command `shoplens table-benchmark`."""

from pathlib import Path
from typing import Annotated

import typer


def table_benchmark(
    file: Annotated[Path, typer.Argument(help="The table: CSV, CSV.gz, TSV, Parquet or JSON Lines.")],
    target: Annotated[str, typer.Option(help="The column to predict: true and false, 1 and 0, or yes and no.")],
    json_file: Annotated[Path, typer.Option("--json", help="Where the figures are written.")],
    drop: Annotated[list[str] | None, typer.Option(help="A column that no model may read; repeatable.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds per repeat.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Number of repeats, each with different folds.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds and the models.")] = 0,
    false_alarm_cost: Annotated[float, typer.Option(min=1e-9, help="Of a false alarm, in true rows missed.")] = 1.0,
    model: Annotated[
        list[str] | None, typer.Option(help="A model; repeatable. Default: the blend and what it must beat.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Folder for finished folds, which are not run again; use another one after a change of the code."
        ),
    ] = None,
) -> None:
    """Cross-validate the models of a flat table on the same folds."""
    from shoplens.errors import SettingsError
    from training.table.benchmark import MODELS, Protocol, benchmark
    from training.table.run import MODEL_NAMES

    unknown = sorted(set(model or ()) - set(MODEL_NAMES))
    if unknown:
        raise SettingsError(f"--model: must be one of {', '.join(MODEL_NAMES)}; received {unknown[0]!r}")

    protocol = Protocol(file, target, tuple(drop or ()), folds, repeats, seed, false_alarm_cost, tuple(model or MODELS))
    content = benchmark(protocol, json_file, keep, lambda line: typer.echo(line, err=True))
    for name, one in content["figures"].items():
        shown = (
            f"{metric} {one[metric]['value']:.4f} [{one[metric]['low']:.4f}, {one[metric]['high']:.4f}]"
            for metric in ("roc_auc", "average_precision", "log_loss")
        )
        typer.echo(f"{name:20} {', '.join(shown)}")
    typer.echo(f"written to {json_file}")
