"""The gate: may the packaged model replace the one in service?

For each head, both models predict the same held-out rows; the 95% interval is of (new - current), resampling users. The
new one is accepted iff the lower bound is at least -gate.margin on average precision and on NDCG@10; with nothing in
service, iff it beats the base rate and popularity (lower bound above zero).

Rows that the model in service may have learned from judge nothing. Where none is left, or where today's code cannot ask
it (its architecture or a feature is gone), the new one is judged against the floor, and the verdict says why.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.package import model_version
from serving.places import current_version, package_of, places
from shoplens.errors import IncomparableError, ModelError, ReleaseError
from shoplens.files import write_json
from shoplens.params import Params
from shoplens.settings import Settings
from training.evaluation.bootstrap import Interval, intervals, paired_difference, user_weights
from training.evaluation.evaluate import MAIN_METRIC, Evaluation, evaluate_model
from training.models import artifact
from training.models.artifact import Predictor
from training.models.remapped import RemappedPredictor
from training.rows.rowset import TASKS, RowSet, Task

_FLOOR = {"purchase": "base_rate", "next_item": "popularity"}


@dataclass(frozen=True)
class Head:
    """The judgement of one head; `note` says why the rival is not the model in service."""

    task: str
    metric: str
    rival: str
    new: Interval
    old: Interval
    difference: Interval
    bound: float
    passed: bool
    rows: int
    note: str = ""

    def line(self) -> str:
        """Return the judgement as a line for a person."""
        sign = ">=" if self.bound < 0 else ">"
        return (
            f"{self.task}, {self.rows:,} rows: {self.metric} new {self.new}, {self.rival} {self.old}, "
            f"difference {self.difference}; lower bound {self.difference.low:+.4f} must be {sign} {self.bound:g}: "
            f"{'passed' if self.passed else 'REFUSED'}{f' ({self.note})' if self.note else ''}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "metric": self.metric,
            "rival": self.rival,
            "new": self.new.as_json(),
            "old": self.old.as_json(),
            "difference": self.difference.as_json(),
            "bound": self.bound,
            "passed": self.passed,
            "rows": self.rows,
            "note": self.note,
        }


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a package."""

    version: str
    current: str | None
    heads: tuple[Head, ...]

    @property
    def accepted(self) -> bool:
        """Whether every head passed; a package that is in service already is."""
        return all(head.passed for head in self.heads)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "model_version": self.version,
            "current": self.current,
            "accepted": self.accepted,
            "heads": {head.task: head.as_json() for head in self.heads},
        }


def _judge_rival(rival: Predictor, new: Predictor, rows: RowSet, weight: NDArray[np.int32], params: Params) -> Evaluation:
    """Judge the rival, which may have been trained with another catalogue, in the items of the new model."""
    return evaluate_model(RemappedPredictor(rival, new.catalogue), rows, weight, params.evaluate.threshold)


def compare_models(task: Task, package: Path, rival: Path, params: Params, outs: Path, bound: float) -> Head:
    """Compare the package's model with the artifact `rival` on the held-out rows of `outs`.

    Raises:
        IncomparableError: the rival may have learned from every row, or today's code cannot load or ask it.
    """
    new_model = artifact.load(package / "models" / task)
    rows = RowSet.load(outs / task / "rows/test.parquet")
    try:
        old_model = artifact.load(rival)
        rows = rows.take(np.flatnonzero(rows.inputs.now >= old_model.learned_until))
        if len(rows) == 0:
            raise IncomparableError(f"{rival}: may have learned from every held-out row of {task}")
        weight = user_weights(rows.user_id, params.evaluate.resamples, params.seed)
        old_judged = _judge_rival(old_model, new_model, rows, weight, params)
    except (ModelError, ValueError, KeyError) as error:  # what Keras raises for other shapes; a card of another form
        raise IncomparableError(f"{rival}: today's code cannot ask it: {error}") from error
    metric = MAIN_METRIC[task]
    old = old_judged.samples[metric]
    new = evaluate_model(new_model, rows, weight, params.evaluate.threshold).samples[metric]
    both = intervals({"new": new, "old": old})
    difference = paired_difference(new, old)
    passed = difference.low >= bound if bound < 0 else difference.low > bound
    return Head(task, metric, old_model.name, both["new"], both["old"], difference, bound, passed, len(rows))


def _judge_task(task: Task, current: Path | None, params: Params, settings: Settings) -> Head:
    """Compare with the model of the package `current` if there is one and it can be asked, else with the floor."""
    package, outs, note = settings.outs_dir / "package", settings.outs_dir, ""
    if current is not None:
        # A bound of zero would be the floor's rule, "better"; in service it is "not worse".
        bound = -params.gate.margin if params.gate.margin > 0 else -1e-12
        try:
            return compare_models(task, package, current / "models" / task, params, outs, bound)
        except IncomparableError as error:
            note = f"not compared with the model in service: {str(error).splitlines()[0][:300]}"
    floor = outs / task / "baselines" / _FLOOR[task]
    if not floor.exists():
        raise ReleaseError(
            f"gate: {floor} is missing, the model to beat; train.{task}.baselines must have {_FLOOR[task]}"
        )
    return replace(compare_models(task, package, floor, params, outs, 0.0), note=note)


def evaluate_package(params: Params, settings: Settings) -> Verdict:
    """Judge `outs/package` and keep the verdict at var/service/verdicts/VERSION.json.

    Raises:
        ReleaseError: there is no package, or no floor to compare with.
    """
    version, current = model_version(settings.outs_dir / "package"), current_version(settings)
    if current == version:
        return Verdict(version, current, ())
    rival = None if current is None else package_of(places(settings).current.resolve())
    heads = tuple(_judge_task(task, rival, params, settings) for task in TASKS)
    verdict = Verdict(version, current, heads)
    write_json(places(settings).verdicts / f"{version}.json", verdict.as_json())
    return verdict
