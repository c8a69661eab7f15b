"""The part `scaling` of `bench.models`: how much a larger network and more users to learn from bring.

Every point is a network trained on some of the users of a file, with at most the same number of steps, and tested on
the last event of every user: the users of a smaller share are among those of a larger one.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import console, markdown
from shoplens.files import file_digest
from training.benchmark import Settings, read_split, run
from training.models.sequence.fit import Training
from training.models.sequence.presets import preset
from training.protocols.splits import Split

_EVALUATIONS = 8  # of a training run, after which the weights may be kept


def _of_users(split: Split, share: float) -> Split:
    """Return a split that learns from a share of the users."""
    order = np.random.default_rng(0).permutation(len(split.begin))
    chosen = np.sort(order[: max(1, round(share * len(order)))])
    return dataclasses.replace(split, begin=split.begin[chosen], end=split.end[chosen])


def scaling(
    file: Path, model: str, presets: list[str], shares: list[float], epochs: int, work: Path, image: Path
) -> str:
    """Train every preset on every share of the users; return the table, and draw NDCG@10 to `image` (PNG).

    Args:
        file: `user item [time]` per line, also .gz.
        model: Name of the encoder.
        presets: Sizes.
        shares: Shares of the users, above 0 and at most 1.
        epochs: Passes over all users; a smaller share is read more often, for the same number of steps.
        work: Folder of checkpoints, from which an interrupted run continues; delete it after a change of the code.
        image: The plot.
    """
    split = read_split(file, "leave-one-out")
    points: list[dict[str, Any]] = []
    for name in presets:
        for share in shares:
            passes = math.ceil(epochs / share)
            training = Training(epochs=passes, evaluate_every=math.ceil(passes / _EVALUATIONS), patience=_EVALUATIONS)
            settings = Settings(model, preset(name), training=training, references=False)
            part = _of_users(split, share)
            place = work / file_digest(file)[:12] / f"{model}-{name}-{share:g}-{passes}"
            place.mkdir(parents=True, exist_ok=True)
            content = run(part, "leave-one-out", settings, place / "found.json", folder=place, log=console.print)
            found = content["models"][model]
            points.append({"preset": name, "events": int((part.end - part.begin).sum()), **found})
    _draw(points, image)
    return markdown(
        ["preset", "parameters without item vectors", "training events", "epoch kept", "NDCG@10", "HR@10", "seconds"],
        [_row(one) for one in points],
    )


def _row(point: dict[str, Any]) -> list[str]:
    figures, outcome = point["figures"]["all"], point["outcome"]
    cells = [
        f"{figures[m]['value']:.4f} [{figures[m]['low']:.4f}, {figures[m]['high']:.4f}]" for m in ("ndcg@10", "hr@10")
    ]
    own = f"{point['parameters_without_items']:,}"
    kept = f"{outcome['best_epoch']} of {outcome['epochs']}"
    return [point["preset"], own, f"{point['events']:,}", kept, *cells, f"{outcome['seconds']:.0f}"]


def _draw(points: list[dict[str, Any]], image: Path) -> None:
    """Draw a line per preset over the number of training events, with 95% intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xscale="log", xlabel="training events", ylabel="NDCG@10 of all test users")
    for name in dict.fromkeys(one["preset"] for one in points):
        line = [one for one in points if one["preset"] == name]
        found = [one["figures"]["all"]["ndcg@10"] for one in line]
        value = np.array([one["value"] for one in found])
        spread = np.abs(np.array([[one["low"], one["high"]] for one in found]).T - value)
        axes.errorbar([one["events"] for one in line], value, spread, label=name, marker="o", capsize=3)
    axes.grid(alpha=0.3)
    axes.legend()
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image, dpi=100, metadata={"Software": None})
