"""The stage `explain`: permutation importance of both models on held-out rows."""

from collections.abc import Callable

import numpy as np

from shoplens.files import whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.evaluation.bootstrap import Interval
from training.evaluation.evaluate import MAIN_METRIC
from training.evaluation.metrics import purchase_metrics, ranking_metrics
from training.evaluation.plots import write_importance
from training.evaluation.ranking import rank_all
from training.explanation.permutation import input_names, permutation_importance, shuffle_input
from training.loop import prepare_device
from training.models import artifact
from training.models.artifact import Predictor
from training.rows.inputs import Inputs
from training.rows.rowset import TASKS, RowSet, Task

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
    rows = RowSet.load(folder / "rows/test.parquet")
    limit = params.explain.rows if task == "purchase" else max(10, params.explain.rows // _FEWER_ROWS)
    if len(rows) > limit:
        chosen = np.random.default_rng(params.seed).choice(len(rows), limit, replace=False)
        rows = rows.take(np.sort(chosen))
    names = input_names(rows.inputs, sequence=predictor.model.reads_history, grouped=task == "next_item")
    random = np.random.default_rng(params.seed)
    orders = [random.permutation(len(rows)) for _ in range(params.explain.repeats)]
    found = {}
    for name, one in permutation_importance(rows.inputs, names, shuffle_input, _score(predictor, rows), orders):
        found[name] = one
        if len(found) % 10 == 0 or len(found) == len(names):
            console.print(f"{task}: {len(found)}/{len(names)} inputs")
    return found


def explain(params: Params, settings: Settings) -> None:
    """Write outs/explanation: importance.json and plots/."""
    prepare_device(params.train.device)
    content = {}
    with whole_folder(settings.outs_dir / "explanation") as out:
        (out / "plots").mkdir()
        for task in TASKS:
            found = explain_task(task, params, settings)
            write_importance(found, task, MAIN_METRIC[task], out / "plots")
            content[task] = {name: one.as_json() for name, one in found.items()}
        write_json(out / "importance.json", content)
