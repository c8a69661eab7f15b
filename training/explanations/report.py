"""The part of the stage `explain` about single answers: fidelity of explanations, and plots of readable models."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.contract import EVENT_NAMES
from shoplens.files import read_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.explanations.background import background_of
from training.explanations.fidelity import check_answers
from training.explanations.question import PurchaseQuestions, Question, item_question
from training.models import artifact
from training.plots import write_attention, write_tree
from training.resamples import Interval
from training.rows import RowSet, Task


def check_task(task: Task, params: Params, settings: Settings) -> dict[str, dict[str, Interval]]:
    """Return the fidelity of the explanations of a task's answers on held-out rows; see `check_answers`."""
    folder = settings.outs_dir / task
    predictor, rows = artifact.load(folder / "model"), RowSet.load(folder / "rows/test")
    count = min(params.explain.answers, len(rows))
    rows = rows.take(np.sort(np.random.default_rng(params.seed).choice(len(rows), count, replace=False)))
    each = (rows.inputs.take(slice(k, k + 1)) for k in range(count))
    asked: Iterable[Question]
    if task == "purchase":
        validation = RowSet.load(folder / "rows/validation").inputs.select(predictor.feature_names)
        asked = map(PurchaseQuestions(predictor, background_of(validation, params.seed)).of, each)
    else:
        asked = (item_question(predictor, row) for row in each)
    found = check_answers(asked, rows.user_id, params.evaluate.resamples, params.seed)
    for name, figures in found.items():
        console.print(f"{task}, {name}: " + ", ".join(f"{label} {one}" for label, one in figures.items()))
    return found


def draw_models(purchase: Path, folder: Path) -> None:
    """Plot the decision tree and the attention of the transformer, if they are among the models in outs/purchase.

    The attention is that of the longest history among the held-out rows.
    """
    from training.models.baselines import DecisionTree
    from training.models.encoders import Transformer

    for path in (purchase / "model", *sorted((purchase / "baselines").iterdir())):
        if read_json(path / "model.json")["name"] not in (DecisionTree.name, Transformer.name):
            continue
        predictor = artifact.load(path)
        if isinstance(predictor.model, DecisionTree):
            write_tree(predictor.model.trees, predictor.feature_names, folder / "decision_tree.png")
        if isinstance(predictor.model, Transformer):
            rows = RowSet.load(purchase / "rows/test").inputs.select(predictor.feature_names)
            longest = int(np.argmax(rows.history.lengths))
            row = rows.take(slice(longest, longest + 1))
            weights = predictor.model.attention(row)[0].mean(axis=1)  # (blocks, length, length)
            events = row.history.window(weights.shape[-1])
            seen = events.valid[0]
            days, codes = np.datetime_as_string(events.event_time[0, seen], "D"), events.event_code[0, seen]
            labels = [f"{day} {EVENT_NAMES[code - 1]}" for day, code in zip(days, codes, strict=True)]
            write_attention(weights[:, seen][:, :, seen], labels, folder / "attention.png")
