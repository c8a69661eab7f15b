"""The gate: may the packaged model replace the one in service?

For each head, both models predict the same held-out rows, and the 95% interval of (new - current) is computed by
resampling users. The new model is accepted if the lower bound is at least -gate.margin on average precision and on
NDCG@10. With nothing in service, it is compared with a floor: it must beat the base rate and popularity (lower bound
above zero). It must also hold against the best baseline trained beside it, within the same margin: a model that a
count beats helps nobody.

A log may give a model of one task only (`training.heads`). A package that lacks one that is in service is rejected: a
head must not disappear because a mapping lost the purchases.

Rows that the model in service may have been trained on are excluded. If no rows remain, or the current code cannot run
that model (its architecture or a feature no longer exists), the new model is compared with the floor, and the verdict
states the reason.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.package import model_version
from serving.release import Locations, current_version, package_of
from shoplens.errors import IncomparableError, ModelError, ReleaseError
from shoplens.files import write_json
from shoplens.params import Params
from shoplens.settings import Settings
from training.evaluate import MAIN_METRIC, evaluate_model
from training.heads import heads, missing_heads
from training.models import artifact
from training.models.artifact import RemappedPredictor
from training.resamples import Array, Interval, Resamples, intervals, paired_difference
from training.rows import RowSet, Task

_FLOOR = {"purchase": "base_rate", "next_item": "popularity"}


@dataclass(frozen=True)
class HeadResult:
    """The comparison of one head; `note` states why the rival is not the model in service."""

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
        """Return a one-line description."""
        sign = ">" if self.bound == 0 and self.rival in _FLOOR.values() else ">="
        return (
            f"{self.task}, {self.rows:,} rows: {self.metric} new {self.new}, {self.rival} {self.old}, "
            f"difference {self.difference}; lower bound {self.difference.low:+.4f} must be {sign} {self.bound:g}: "
            f"{'passed' if self.passed else 'REJECTED'}{f' ({self.note})' if self.note else ''}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values."""
        fields = {name: value for name, value in vars(self).items() if name != "task"}
        return {name: one.as_json() if isinstance(one, Interval) else one for name, one in fields.items()}


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate on a package.

    Attributes:
        heads: Each head against the model in service, or the floor.
        baselines: Each head against the best of its baselines.
        missing: Heads without a model, with the reason.
        lost: Those of them that are in service.
    """

    version: str
    current: str | None
    heads: tuple[HeadResult, ...]
    baselines: tuple[HeadResult, ...] = ()
    missing: dict[Task, str] = field(default_factory=dict)
    lost: tuple[Task, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether every comparison passed and no head is lost. A package that is already in service is accepted."""
        return not self.lost and all(one.passed for one in (*self.heads, *self.baselines))

    def lines(self) -> list[str]:
        """Return one line per comparison, and one per head without a model."""
        lines = [one.line() for one in (*self.heads, *self.baselines)]
        for task, reason in self.missing.items():
            lines.append(f"{task}: no model: {reason}")
            if task in self.lost:
                lines.append(f"{task}: REJECTED, for {self.current} in service has one. Restore what the log lacks")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values."""
        return {
            "model_version": self.version,
            "current": self.current,
            "accepted": self.accepted,
            "heads": {head.task: head.as_json() for head in self.heads},
            "baselines": {head.task: head.as_json() for head in self.baselines},
            "missing": self.missing,
            "lost": list(self.lost),
        }


def compare_models(task: Task, package: Path, rival: Path, params: Params, outs: Path, bound: float) -> HeadResult:
    """Compare the package's model with the artifact `rival` on the held-out rows in `outs`.

    Raises:
        IncomparableError: the rival may have been trained on every row, or the current code cannot load or run it.
    """
    new_model = artifact.load(package / "models" / task)
    rows = RowSet.load(outs / task / "rows/test")
    try:
        old_model = artifact.load(rival)
        rows = rows.take(np.flatnonzero(rows.inputs.now >= old_model.learned_until))
        if len(rows) == 0:
            raise IncomparableError(f"{rival}: may have been trained on every held-out row of {task}")
        resamples = Resamples(rows.user_id, params.evaluate.resamples, params.seed)
        # The rival may have been trained with another catalogue.
        remapped = RemappedPredictor(old_model, new_model.catalogue)
        old_result = evaluate_model(remapped, rows, resamples)
    except (ModelError, ValueError, KeyError) as error:  # Keras on other shapes; a model.json of an earlier version
        raise IncomparableError(f"{rival}: cannot be run by the current code: {error}") from error
    metric = MAIN_METRIC[task]
    old = old_result.samples[metric]
    new = evaluate_model(new_model, rows, resamples).samples[metric]
    both = intervals({"new": new, "old": old})
    difference = paired_difference(new, old)
    passed = difference.low >= bound if bound < 0 else difference.low > bound
    return HeadResult(task, metric, old_model.name, both["new"], both["old"], difference, bound, passed, len(rows))


def _evaluate_task(task: Task, current: Path | None, params: Params, settings: Settings) -> HeadResult:
    """Compare with the model in the package `current` if there is one and it can be run, else with the floor."""
    package, outs, note = settings.outs_dir / "package", settings.outs_dir, ""
    if current is not None and not (current / "models" / task).is_dir():
        note = "the package in service has no such model"
    elif current is not None:
        # A bound of exactly zero would require an improvement, which is the rule for the floor only.
        bound = -params.gate.margin if params.gate.margin > 0 else -1e-12
        try:
            return compare_models(task, package, current / "models" / task, params, outs, bound)
        except IncomparableError as error:
            note = f"not compared with the model in service: {str(error).splitlines()[0][:300]}"
    floor = outs / task / "baselines" / _FLOOR[task]
    if not floor.exists():
        raise ReleaseError(
            f"gate: {floor}, the baseline to beat, is missing; train.{task}.baselines must include {_FLOOR[task]}. "
            f"Add it and run `dvc repro`"
        )
    return replace(compare_models(task, package, floor, params, outs, 0.0), note=note)


def _against_baselines(task: Task, params: Params, settings: Settings) -> HeadResult:
    """Compare the package's model with the best of the baselines trained on the same rows."""
    outs, metric = settings.outs_dir, MAIN_METRIC[task]
    rows = RowSet.load(outs / task / "rows/test")
    resamples = Resamples(rows.user_id, params.evaluate.resamples, params.seed)

    def samples(folder: Path) -> Array:
        return evaluate_model(artifact.load(folder), rows, resamples).samples[metric]

    rivals = {path.name: samples(path) for path in sorted((outs / task / "baselines").iterdir())}
    best = max(rivals, key=lambda name: rivals[name][0])
    new = samples(outs / "package/models" / task)
    both = intervals({"new": new, "old": rivals[best]})
    difference, bound = paired_difference(new, rivals[best]), -params.gate.margin
    passed = difference.low >= bound
    return HeadResult(task, metric, best, both["new"], both["old"], difference, bound, passed, len(rows))


def evaluate_package(params: Params, settings: Settings) -> Verdict:
    """Evaluate outs/package and write the verdict to var/service/verdicts/VERSION.json.

    Raises:
        ReleaseError: there is no package, or a baseline is missing.
    """
    version, current = model_version(settings.outs_dir / "package"), current_version(settings)
    if current == version:
        return Verdict(version, current, ())
    rival = None if current is None else package_of(Locations(settings).current.resolve())
    present, missing = heads(settings.outs_dir), missing_heads(settings.outs_dir)
    verdict = Verdict(
        version,
        current,
        tuple(_evaluate_task(task, rival, params, settings) for task in present),
        tuple(_against_baselines(task, params, settings) for task in present),
        missing,
        tuple(task for task in missing if rival is not None and (rival / "models" / task).is_dir()),
    )
    write_json(Locations(settings).verdicts / f"{version}.json", verdict.as_json())
    return verdict
