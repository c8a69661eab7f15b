"""The stage `explain`: what the models rest on, and whether explanations of single answers can be believed.

Permutation importance is the drop in a metric when one input is shuffled among held-out rows (Breiman, 2001, section
10). Shuffling is repeated, so that the interval shows which importances are noise. Correlated inputs share their
importance: a low importance does not mean that a feature carries no information.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from features.histories import Histories
from shoplens.files import whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.evaluate import MAIN_METRIC
from training.explanations.fidelity import REMOVALS
from training.explanations.report import check_task, draw_models
from training.heads import heads, missing_heads
from training.loop import prepare_device
from training.metrics import purchase_metrics, ranking_metrics
from training.models import artifact
from training.models.artifact import Predictor
from training.models.ranking import rank_all
from training.plots import write_fidelity, write_importance
from training.resamples import Interval
from training.rows import Inputs, RowSet, Task

Rows = TypeVar("Rows")
_HISTORY = {"history: items": "item_index", "history: event names": "event_code", "history: times": "event_time"}


def shuffle_input(inputs: Inputs, name: str, order: NDArray[np.int64]) -> Inputs:
    """Return the inputs with one feature, or one part of the history, reordered by `order`."""
    if name in _HISTORY:
        return replace(inputs, history=_exchange(inputs, _HISTORY[name], order))
    column = inputs.names.index(name)
    tabular = inputs.tabular.copy()
    tabular[:, column] = tabular[order, column]
    return replace(inputs, tabular=tabular)


def _exchange(inputs: Inputs, part: str, order: NDArray[np.int64]) -> Histories:
    """Return histories with one column taken from the history `order` names, aligned at the latest event.

    Where the other history is shorter, a row keeps its own values.
    """
    history = inputs.history
    row, place = history.flat()
    other = order[row]
    other_place = history.end[other] - (history.end[row] - place)
    has = other_place >= history.begin[other]
    column = getattr(history.log, part)
    values = column[np.where(has, other_place, place)]
    if part == "event_time":  # ages are exchanged, not timestamps: a history must end before its own `now`
        values = values + np.where(has, inputs.now[row] - inputs.now[other], np.timedelta64(0, "us"))
    lengths = history.lengths
    end = np.cumsum(lengths)
    return Histories(replace(history.log.at(place), **{part: values}), end - lengths, end)


def input_names(inputs: Inputs, *, history: bool) -> tuple[str, ...]:
    """Return the names of the inputs: the tabular features and, with `history`, the parts of the history."""
    return (*inputs.names, *(_HISTORY if history else ()))


def permutation_importance(
    rows: Rows,
    names: Iterable[str],
    shuffle: Callable[[Rows, str, NDArray[np.int64]], Rows],
    score: Callable[[Rows], float],
    orders: list[NDArray[np.int64]],
) -> Iterator[tuple[str, Interval]]:
    """Yield each input with its importance: the mean drop in the score over the shuffles, and its 95% interval.

    The interval is Student's t; it covers the randomness of the shuffles only, not that of the rows.

    Args:
        rows: Held-out rows.
        names: The inputs, in the order of the result.
        shuffle: Returns the rows with one input in another order.
        score: The metric; higher is better.
        orders: Permutations of the rows, one per shuffle.
    """
    base = score(rows)
    for name in names:
        drops = base - np.array([score(shuffle(rows, name, order)) for order in orders])
        mean = float(drops.mean())
        spread = float(t.ppf(0.975, len(drops) - 1) * drops.std(ddof=1) / np.sqrt(len(drops)))
        yield name, Interval(mean, mean - spread, mean + spread)


_FEWER_ROWS = 4  # next-item predictions rank the whole catalogue, so this many times fewer rows are shuffled


def _score(predictor: Predictor, rows: RowSet) -> Callable[[Inputs], float]:
    """Return a function that computes the main metric of the task for given inputs."""
    if rows.task == "purchase":
        return lambda inputs: purchase_metrics(rows.labels, predictor.predict(inputs))["average_precision"]
    targets = rows.target_sets
    return lambda inputs: float(ranking_metrics(rank_all(predictor, inputs), targets)["ndcg@10"].mean())


def explain_task(task: Task, params: Params, settings: Settings) -> dict[str, Interval]:
    """Return the importance of each input of a task's model."""
    folder = settings.outs_dir / task
    predictor = artifact.load(folder / "model")
    rows = RowSet.load(folder / "rows/test")
    limit = params.explain.rows if task == "purchase" else max(10, params.explain.rows // _FEWER_ROWS)
    if len(rows) > limit:
        chosen = np.random.default_rng(params.seed).choice(len(rows), limit, replace=False)
        rows = rows.take(np.sort(chosen))
    names = input_names(rows.inputs, history=predictor.model.reads_history)
    random = np.random.default_rng(params.seed)
    orders = [random.permutation(len(rows)) for _ in range(params.explain.repeats)]
    found = {}
    for name, one in permutation_importance(rows.inputs, names, shuffle_input, _score(predictor, rows), orders):
        found[name] = one
        if len(found) % 10 == 0 or len(found) == len(names):
            console.print(f"{task}: {len(found)}/{len(names)} inputs")
    return found


def explain(params: Params, settings: Settings) -> None:
    """Write outs/explanation: importance.json, fidelity.json and plots/."""
    prepare_device(params.train.device)
    present = heads(settings.outs_dir)
    content: dict[str, Any] = {task: {"missing": why} for task, why in missing_heads(settings.outs_dir).items()}
    fidelity = {}
    with whole_folder(settings.outs_dir / "explanation") as out:
        (out / "plots").mkdir()
        for task in present:
            found = explain_task(task, params, settings)
            write_importance(found, task, MAIN_METRIC[task], out / "plots")
            content[task] = {name: one.as_json() for name, one in found.items()}
            fidelity[task] = check_task(task, params, settings)
            removed = {name: one for name, one in fidelity[task].items() if name != "lime"}
            write_fidelity(removed, REMOVALS, out / "plots" / f"fidelity_{task}.png")
        if "purchase" in present:
            draw_models(settings.outs_dir / "purchase", out / "plots")
        write_json(out / "importance.json", content)
        as_json = {
            task: {name: {label: one.as_json() for label, one in figures.items()} for name, figures in found.items()}
            for task, found in fidelity.items()
        }
        write_json(out / "fidelity.json", as_json)
