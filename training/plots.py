"""Plots of an evaluation, without timestamps: identical figures give identical files.

Each plot is a PNG that compares the model with its baselines, and a CSV of the model alone. `dvc plots` draws one line
per revision from the CSVs; `plots` in dvc.yaml names the axes.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.calibration import Calibration
from training.resamples import Interval

_POINTS = 200  # per curve; more are not visible
_SHOWN = 20  # importances


def _new_figure(
    title: str, x: str, y: str, size: tuple[float, float] = (6.4, 4.8), grid: Literal["both", "x"] = "both"
) -> tuple[Any, Any]:
    """Return an empty figure and its axes, with a title, axis labels and a grid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(axis=grid, alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, without Matplotlib's version in the metadata, so that the bytes are reproducible."""
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _thin(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).astype(int))
    return np.round(x[keep], 6), np.round(y[keep], 6)


def write_curves(label: NDArray[np.float32], scores: dict[str, NDArray[np.float32]], folder: Path) -> None:
    """Write ROC and precision-recall curves: roc.png and precision_recall.png with all models, the CSVs of "model"."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, axes_roc = _new_figure("ROC", "false positive rate", "true positive rate")
    pr, axes_pr = _new_figure("Precision and recall", "recall", "precision")
    for name, score in scores.items():
        false, true, _ = roc_curve(label, score)
        precision, recall, _ = precision_recall_curve(label, score)
        for axes, x, y in ((axes_roc, false, true), (axes_pr, recall, precision)):
            axes.plot(*_thin(x, y), label=name)
            axes.set_ylim(0, 1.02)
        if name == "model":
            x, y = _thin(false, true)
            pl.DataFrame({"false_positive_rate": x, "true_positive_rate": y}).write_csv(folder / "roc.csv")
            x, y = _thin(recall, precision)
            pl.DataFrame({"recall": x, "precision": y}).write_csv(folder / "precision_recall.csv")
    axes_roc.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="chance")
    axes_pr.axhline(float(label.mean()), linestyle="--", color="grey", linewidth=1, label="share of buyers")
    for kind, figure, axes in (("roc", roc, axes_roc), ("precision_recall", pr, axes_pr)):
        axes.legend()
        _save(figure, folder / f"{kind}.png")


def write_calibration(found: dict[str, Calibration], folder: Path) -> None:
    """Write calibration.csv and calibration.png: predicted and observed share in ten bins of equal count.

    For "model", bars show the 95% range that each bin stays in if the probabilities are perfect.
    """
    figure, axes = _new_figure("Calibration", "predicted probability", "share that bought")
    for name, one in found.items():
        axes.plot(one.predicted, one.observed, marker="o", markersize=4, label=name)
        if name == "model":
            axes.vlines(one.predicted, one.low, one.high, color="grey", linewidth=5, alpha=0.4, label="if perfect, 95%")
            columns = {part: np.round(getattr(one, part), 6) for part in ("predicted", "observed", "low", "high")}
            pl.DataFrame(columns | {"rows": one.rows}).write_csv(folder / "calibration.csv")
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfect")
    axes.legend()
    _save(figure, folder / "calibration.png")


def write_learning_curve(live: Path, task: str, folder: Path) -> None:
    """Write learning_TASK.png and learning_TASK.csv: the loss of each split per epoch.

    A model that is not trained in epochs has no curve: its CSV has no rows, and there is no PNG.
    """
    figure, axes = _new_figure(f"Learning curve, {task}", "epoch", "loss")
    table = pl.DataFrame(schema={"epoch": pl.Int64})
    for split in ("train", "validation"):
        path = live / "plots/metrics" / split / "loss.tsv"
        curve = pl.read_csv(path, separator="\t") if path.is_file() else pl.DataFrame({"step": [], "loss": []})
        curve = curve.select((pl.col("step") + 1).cast(pl.Int64).alias("epoch"), pl.col("loss").alias(split))
        axes.plot(curve["epoch"], curve[split], marker="o", label=split)
        table = table.join(curve, on="epoch", how="full", coalesce=True, maintain_order="left_right")
    table.write_csv(folder / f"learning_{task}.csv")
    if len(table):
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
        _save(figure, folder / f"learning_{task}.png")


def write_attention(weights: NDArray[np.float32], labels: list[str], path: Path) -> None:
    """Draw how much each event of one history attends to each other, as a heat map per block.

    Args:
        weights: Mean over the heads, (blocks, events, events).
        labels: Name of each event, oldest first.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 0.2 * len(labels) + 2.4
    figure = Figure(figsize=(side * len(weights), side), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(weights), squeeze=False)[0]
    for block, (axes, values) in enumerate(zip(all_axes, weights, strict=True), start=1):
        image = axes.imshow(values, cmap="viridis", vmin=0)
        axes.set(title=f"Attention, block {block}", xlabel="to", ylabel="from")
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
        axes.set_yticks(range(len(labels)), labels, fontsize=6)
        figure.colorbar(image, ax=axes, shrink=0.7)
    _save(figure, path)


def write_tree(tree: Any, names: tuple[str, ...], path: Path) -> None:
    """Draw the first levels of a scikit-learn decision tree: each node's share of buyers and its condition."""
    from sklearn.tree import plot_tree

    figure, axes = _new_figure("", "", "", (17, 7))
    labels = {"feature_names": list(names), "class_names": ["stays away", "buys"]}
    plot_tree(
        tree, max_depth=3, filled=True, impurity=False, proportion=True, precision=2, fontsize=7, ax=axes, **labels
    )
    axes.set_title("Decision tree, first levels")  # plot_tree has cleared the axes
    _save(figure, path)


def write_fidelity(found: dict[str, dict[str, Interval]], removals: tuple[str, ...], path: Path) -> None:
    """Draw how much answers change when important, random and unimportant things are removed, with intervals.

    Args:
        found: What was removed -> kind of removal -> the mean change.
        removals: The kinds, in order.
        path: The PNG.
    """
    label = "mean change of the score (95% interval)"
    figure, axes = _new_figure("What explanations call important, removed", "", label, (8, 4.8))
    place, width = np.arange(len(found)), 0.8 / len(removals)
    for k, kind in enumerate(removals):
        bars = [one[kind] for one in found.values()]
        values = [bar.value for bar in bars]
        error = [[bar.value - bar.low for bar in bars], [bar.high - bar.value for bar in bars]]
        axes.bar(place + (k - 1) * width, values, width, yerr=error, capsize=3, label=kind)
    axes.set_xticks(place, list(found))
    axes.legend()
    _save(figure, path)


def write_importance(importances: dict[str, Interval], task: str, metric: str, folder: Path) -> None:
    """Write the 20 largest importances to importance_TASK.csv and, as bars, to importance_TASK.png."""
    largest = sorted(importances.items(), key=lambda one: (-one[1].value, one[0]))[:_SHOWN]
    rows = [{"input": name, **one.as_json()} for name, one in largest]
    pl.DataFrame(rows, schema=["input", "value", "low", "high"]).write_csv(folder / f"importance_{task}.csv")
    bars = largest[::-1]
    label = f"fall of {metric} when shuffled (95% interval)"
    size = (8, 0.32 * len(bars) + 1.2)
    figure, axes = _new_figure(f"Permutation importance, {task}", label, "", size, grid="x")
    names, values = [name for name, _ in bars], [one.value for _, one in bars]
    error = [[one.value - one.low for _, one in bars], [one.high - one.value for _, one in bars]]
    axes.barh(names, values, xerr=error, color="#4477aa", ecolor="#222222", capsize=3)
    _save(figure, folder / f"importance_{task}.png")
