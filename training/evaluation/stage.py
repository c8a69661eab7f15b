"""The stage `evaluate`: both models and their baselines on the held-out rows."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shoplens.files import whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.evaluation.bootstrap import paired_difference, user_weights
from training.evaluation.evaluate import MAIN_METRIC, Evaluation, judge
from training.evaluation.plots import write_calibration, write_curves, write_learning_curve
from training.loop import prepare_device
from training.models import artifact
from training.rows.rowset import TASKS, RowSet


def evaluate_folder(folder: Path, rows: RowSet, params: Params) -> dict[str, Evaluation]:
    """Judge the artifact `model/` and every one below `baselines/`; the model comes first, under the name "model"."""
    weight = user_weights(rows.user_id, params.evaluate.resamples, params.seed)
    folders = {"model": folder / "model", **{p.name: p for p in sorted((folder / "baselines").iterdir())}}
    judged = {}
    for name, path in folders.items():
        judged[name] = evaluate_model(artifact.load(path), rows, weight, params.evaluate.threshold)
        shown = judged[name].intervals()[MAIN_METRIC[rows.task]]
        console.print(f"{rows.task:10} {name:20} {MAIN_METRIC[rows.task]} {shown}")
    return judged


def as_metrics(judged: dict[str, Evaluation], main: str) -> dict[str, Any]:
    """Return model -> metric -> value and interval, and of the model minus each baseline on the main metric."""
    content: dict[str, Any] = {
        name: {metric: interval.as_json() for metric, interval in found.intervals().items()}
        for name, found in judged.items()
    }
    new = judged["model"].samples[main]
    content["model_minus"] = {
        name: {main: paired_difference(new, found.samples[main]).as_json()}
        for name, found in judged.items()
        if name != "model"
    }
    return content


def _predictions(rows: RowSet, found: Evaluation) -> pl.DataFrame:
    columns: dict[str, Any] = {"user_id": rows.user_id, "time": rows.inputs.now}
    if found.score is not None:
        columns |= {"label": rows.labels, "score": found.score}
    if found.ranked is not None:
        columns |= {"targets": pl.Series(rows.target_sets, dtype=pl.List(pl.Int32)), "ranked": found.ranked}
    return pl.DataFrame(columns)


def evaluate(params: Params, settings: Settings) -> None:
    """Write outs/evaluation: metrics.json, plots/ and predictions/."""
    prepare_device(params.train.device)
    metrics: dict[str, Any] = {}
    with whole_folder(settings.outs_dir / "evaluation") as out:
        (out / "plots").mkdir()
        (out / "predictions").mkdir()
        for task in TASKS:
            folder = settings.outs_dir / task
            rows = RowSet.load(folder / "rows/test.parquet")
            judged = evaluate_folder(folder, rows, params)
            metrics[task] = as_metrics(judged, MAIN_METRIC[task])
            metrics[task]["rows"] = len(rows)
            _predictions(rows, judged["model"]).write_parquet(out / f"predictions/{task}.parquet")
            write_learning_curve(folder / "live", task, out / "plots")
            if task == "purchase":
                scores = {name: np.asarray(j.score) for name, j in judged.items() if name != "base_rate"}
                write_curves(rows.labels, scores, out / "plots")
                write_calibration(rows.labels, scores, out / "plots")
        write_json(out / "metrics.json", metrics)
