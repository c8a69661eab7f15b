"""The plot of importances: bars with their intervals, and the same figures as CSV."""

from pathlib import Path

import polars as pl

from training.evaluation.bootstrap import Interval
from training.evaluation.plots import new_figure, save

_SHOWN = 20


def write_importance(importances: dict[str, Interval], task: str, metric: str, folder: Path) -> None:
    """Write the 20 largest importances to importance_TASK.csv and, as bars, to importance_TASK.png."""
    largest = sorted(importances.items(), key=lambda one: (-one[1].value, one[0]))[:_SHOWN]
    rows = [{"input": name, **one.as_json()} for name, one in largest]
    pl.DataFrame(rows, schema=["input", "value", "low", "high"]).write_csv(folder / f"importance_{task}.csv")
    bars = largest[::-1]
    label = f"fall of {metric} when shuffled (95% interval)"
    size = (8, 0.32 * len(bars) + 1.2)
    figure, axes = new_figure(f"Permutation importance, {task}", label, "", size, grid="x")
    names, values = [name for name, _ in bars], [one.value for _, one in bars]
    error = [[one.value - one.low for _, one in bars], [one.high - one.value for _, one in bars]]
    axes.barh(names, values, xerr=error, color="#4477aa", ecolor="#222222", capsize=3)
    save(figure, folder / f"importance_{task}.png")
