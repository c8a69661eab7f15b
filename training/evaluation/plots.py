"""Plots of an evaluation, each as CSV for `dvc plots` and as PNG for people; no clock in either."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_POINTS = 200  # of a curve: more cannot be seen
_BINS = 10


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _curves(label: NDArray[np.float32], score: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    false, true, _ = roc_curve(label, score)
    precision, recall, _ = precision_recall_curve(label, score)
    return false, true, recall, precision


def _thin(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).astype(int))
    return np.round(x[keep], 6), np.round(y[keep], 6)


def write_curves(label: NDArray[np.float32], scores: dict[str, NDArray[np.float32]], folder: Path) -> None:
    """Write ROC and precision-recall curves of several models: roc.csv, roc.png, precision_recall.csv and .png."""
    roc, axes_roc = _figure("ROC", "false positive rate", "true positive rate")
    pr, axes_pr = _figure("Precision and recall", "recall", "precision")
    rows: dict[str, list[pl.DataFrame]] = {"roc": [], "precision_recall": []}
    for name, score in scores.items():
        false, true, recall, precision = _curves(label, score)
        for kind, axes, x, y in (("roc", axes_roc, false, true), ("precision_recall", axes_pr, recall, precision)):
            x_thin, y_thin = _thin(x, y)
            axes.plot(x_thin, y_thin, label=name)
            axes.set_ylim(0, 1.02)
            names = ("false_positive_rate", "true_positive_rate") if kind == "roc" else ("recall", "precision")
            rows[kind].append(pl.DataFrame({"model": [name] * len(x_thin), names[0]: x_thin, names[1]: y_thin}))
    axes_roc.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="chance")
    axes_pr.axhline(float(label.mean()), linestyle="--", color="grey", linewidth=1, label="share of buyers")
    for kind, figure, axes in (("roc", roc, axes_roc), ("precision_recall", pr, axes_pr)):
        axes.legend()
        pl.concat(rows[kind]).write_csv(folder / f"{kind}.csv")
        _save(figure, folder / f"{kind}.png")


def write_calibration(label: NDArray[np.float32], scores: dict[str, NDArray[np.float32]], folder: Path) -> None:
    """Write calibration.csv and calibration.png: predicted against observed share in ten equally wide bins."""
    figure, axes = _figure("Calibration", "predicted probability", "share that bought")
    parts = []
    for name, score in scores.items():
        place = np.minimum((score * _BINS).astype(int), _BINS - 1)
        count = np.bincount(place, minlength=_BINS)
        filled = count > 0
        predicted = np.bincount(place, weights=score, minlength=_BINS)[filled] / count[filled]
        observed = np.bincount(place, weights=label, minlength=_BINS)[filled] / count[filled]
        axes.plot(predicted, observed, marker="o", markersize=4, label=name)
        columns = {"predicted": np.round(predicted, 6), "observed": np.round(observed, 6), "rows": count[filled]}
        parts.append(pl.DataFrame({"model": [name] * int(filled.sum()), **columns}))
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfect")
    axes.legend()
    pl.concat(parts).write_csv(folder / "calibration.csv")
    _save(figure, folder / "calibration.png")


def write_learning_curve(live: Path, task: str, folder: Path) -> None:
    """Write learning_TASK.png and .csv from the curves of the training loop; none for a model without epochs."""
    parts = []
    figure, axes = _figure(f"Learning curve, {task}", "epoch", "loss")
    for split in ("train", "validation"):
        path = live / "plots/metrics" / split / "loss.tsv"
        if path.is_file():
            curve = pl.read_csv(path, separator="\t")
            axes.plot(curve["step"] + 1, curve["loss"], marker="o", label=split)
            parts.append(curve.select(pl.lit(split).alias("split"), (pl.col("step") + 1).alias("epoch"), "loss"))
    if parts:
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
        pl.concat(parts).write_csv(folder / f"learning_{task}.csv")
        _save(figure, folder / f"learning_{task}.png")
