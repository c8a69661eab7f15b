"""The plot of importances: bars with their intervals, and the same figures as CSV."""

from pathlib import Path

import polars as pl

from training.explanation.permutation import Importance

_SHOWN = 20


def write_importance(found: list[Importance], task: str, metric: str, folder: Path) -> None:
    """Write the largest as importance_TASK.csv, for `dvc plots`, and importance_TASK.png; importance.json has all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ordered = sorted(found, key=lambda one: (-one.value, one.name))[:_SHOWN]
    columns = {name: [round(getattr(one, name), 6) for one in ordered] for name in ("value", "low", "high")}
    pl.DataFrame({"input": [one.name for one in ordered], **columns}).write_csv(folder / f"importance_{task}.csv")
    shown = ordered[::-1]
    figure = Figure(figsize=(8, 0.32 * len(shown) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = [one.value for one in shown]
    error = [[one.value - one.low for one in shown], [one.high - one.value for one in shown]]
    axes.barh([one.name for one in shown], values, xerr=error, color="#4477aa", ecolor="#222222", capsize=3)
    axes.set(title=f"Permutation importance, {task}", xlabel=f"fall of {metric} when shuffled (95% interval)")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(folder / f"importance_{task}.png", dpi=110, metadata={"Software": None})
