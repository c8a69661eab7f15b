"""The stage `evaluate`: the models and their baselines on the held-out rows.

Logs with user IDs have two test sets. The main figures are those of `weekly_active`; `as_served` resembles the requests
of a service (`training.keys`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shoplens.files import read_json, whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.calibration import check_calibration
from training.heads import heads, missing_heads
from training.metrics import purchase_samples, ranking_metrics
from training.models import artifact
from training.models.content import has_events
from training.models.ranking import Predicts, rank_all
from training.plots import write_calibration, write_curves, write_learning_curve
from training.resamples import Array, Interval, Resamples, intervals, paired_difference
from training.rows import RowSet, Task

MAIN_METRIC = {"purchase": "average_precision", "next_item": "ndcg@10"}


@dataclass(frozen=True)
class Evaluation:
    """The metrics and predictions of a model.

    Attributes:
        samples: Metric -> values on all rows and on each resample, (resamples + 1,).
        score: Probabilities, (rows,), for "purchase".
        ranked: Catalogue indexes, best first, (rows, 20), for "next_item".
    """

    samples: dict[str, Array]
    score: NDArray[np.float32] | None = None
    ranked: NDArray[np.int32] | None = None

    def intervals(self) -> dict[str, Interval]:
        """Return every metric with its interval."""
        return intervals(self.samples)


def evaluate_model(model: Predicts, rows: RowSet, resamples: Resamples) -> Evaluation:
    """Predict held-out rows and compute the metrics of their task; `resamples` are of the users of `rows`."""
    if rows.task == "purchase":
        score = model.predict(rows.inputs)
        samples = purchase_samples(rows.labels.astype(np.float64), score, resamples, model.threshold)
        return Evaluation(samples, score=score)
    ranked = rank_all(model, rows.inputs)
    per_row = ranking_metrics(ranked, rows.target_sets)
    samples = {name: resamples.mean(values) for name, values in per_row.items()}
    return Evaluation(samples | _recall_by_part(ranked, rows, resamples), ranked=ranked)


def target_parts(rows: RowSet) -> dict[str, list[NDArray[np.bool_]]]:
    """Return, for each row, which targets are in its history, which are new to the user, and which new to everybody.

    An item is new to everybody (`unseen`) if neither the user's history nor the row's item table has an event of it.
    """
    history, items = rows.inputs.history, rows.inputs.item_tables
    seen = [history.log.item_index[begin:end] for begin, end in zip(history.begin, history.end, strict=True)]
    repeat = [np.isin(wanted, one) for wanted, one in zip(rows.target_sets, seen, strict=True)]
    sold = [has_events(items, table) for table in range(len(items.times))]
    unseen = [
        ~sold[table][wanted] & ~known
        for wanted, known, table in zip(rows.target_sets, repeat, items.at(rows.inputs.now), strict=True)
    ]
    return {"repeat": repeat, "explore": [~known for known in repeat], "unseen": unseen}


def _recall_by_part(ranked: NDArray[np.int32], rows: RowSet, resamples: Resamples) -> dict[str, Array]:
    """Return recall@20 of each part of the targets, on rows that have any.

    Repeated items alone can make a model look good, so the parts are reported separately (Li et al., "A next basket
    recommendation reality check", TOIS 2023).
    """
    found = {}
    for name, part in target_parts(rows).items():
        has = np.array([one.any() for one in part])
        if not has.any():
            continue
        targets = [wanted[one] for wanted, one, some in zip(rows.target_sets, part, has, strict=True) if some]
        recall = ranking_metrics(ranked[has], targets)["recall@20"]
        found[f"recall@20_{name}"] = resamples.mean(recall, has)
    return found


def evaluate_folder(folder: Path, rows: RowSet, params: Params, note: str = "") -> dict[str, Evaluation]:
    """Evaluate the artifact in `model/`, under the name "model", and each one in `baselines/`; `note` is printed."""
    resamples = Resamples(rows.user_id, params.evaluate.resamples, params.seed)
    folders = {"model": folder / "model", **{p.name: p for p in sorted((folder / "baselines").iterdir())}}
    evaluations = {}
    for name, path in folders.items():
        evaluations[name] = evaluate_model(artifact.load(path), rows, resamples)
        main = evaluations[name].intervals()[MAIN_METRIC[rows.task]]
        console.print(f"{rows.task:10} {name:20} {MAIN_METRIC[rows.task]} {main} {note}")
    return evaluations


def as_metrics(evaluations: dict[str, Evaluation], main: str) -> dict[str, Any]:
    """Return model -> metric -> value and interval, and the model minus each baseline on the main metric."""
    content: dict[str, Any] = {
        name: {metric: interval.as_json() for metric, interval in one.intervals().items()}
        for name, one in evaluations.items()
    }
    new = evaluations["model"].samples[main]
    content["model_minus"] = {
        name: {main: paired_difference(new, one.samples[main]).as_json()}
        for name, one in evaluations.items()
        if name != "model"
    }
    return content


def _predictions(rows: RowSet, model: Evaluation) -> pl.DataFrame:
    columns: dict[str, Any] = {"user_id": rows.user_id, "time": rows.inputs.now}
    if model.score is not None:
        columns |= {"label": rows.labels, "score": model.score}
    if model.ranked is not None:
        columns |= {"targets": pl.Series(rows.target_sets, dtype=pl.List(pl.Int32)), "ranked": model.ranked}
    return pl.DataFrame(columns)


def _evaluate_task(task: Task, params: Params, settings: Settings, out: Path) -> dict[str, Any]:
    """Write plots and predictions of a task to `out`; return its metrics."""
    folder = settings.outs_dir / task
    rows = RowSet.load(folder / "rows/test")
    evaluations = evaluate_folder(folder, rows, params)
    _predictions(rows, evaluations["model"]).write_parquet(out / f"predictions/{task}.parquet")
    write_learning_curve(folder / "live", task, out / "plots")
    if task == "purchase":
        scores = {name: np.asarray(one.score) for name, one in evaluations.items() if name != "base_rate"}
        write_curves(rows.labels, scores, out / "plots")
        found = {name: check_calibration(rows.labels, score, params.seed) for name, score in scores.items()}
        write_calibration(found, out / "plots")
    metrics = _of_rows(rows, evaluations) | {"protocol": read_json(folder / "rows/protocol.json")}
    if task == "purchase":
        metrics["calibration"] = found["model"].as_json()
    if (folder / "rows/served").is_dir():
        served = RowSet.load(folder / "rows/served")
        evaluations = evaluate_folder(folder, served, params, "as served")
        metrics["as_served"] = _of_rows(served, evaluations)
        if (score := evaluations["model"].score) is not None:
            metrics["as_served"]["calibration"] = check_calibration(served.labels, score, params.seed).as_json()
    return metrics


def _of_rows(rows: RowSet, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """Return the metrics on one set of rows."""
    metrics = as_metrics(evaluations, MAIN_METRIC[rows.task]) | {"rows": len(rows)}
    if rows.task == "next_item":
        parts = target_parts(rows).items()
        metrics["rows_with"] = {name: sum(bool(one.any()) for one in part) for name, part in parts}
    return metrics


def evaluate(params: Params, settings: Settings) -> None:
    """Write outs/evaluation: metrics.json, plots/ and predictions/."""
    from training.loop import prepare_device  # loads TensorFlow, which callers of the metrics do not need

    prepare_device(params.train.device)
    present = heads(settings.outs_dir)
    metrics: dict[str, Any] = {task: {"missing": reason} for task, reason in missing_heads(settings.outs_dir).items()}
    with whole_folder(settings.outs_dir / "evaluation") as out:
        (out / "plots").mkdir()
        (out / "predictions").mkdir()
        for task in present:
            metrics[task] = _evaluate_task(task, params, settings, out)
        write_json(out / "metrics.json", metrics)
