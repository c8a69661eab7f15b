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

_CANNOT_RUN = (ModelError, ValueError, KeyError)  # Keras on other shapes; a model.json of an earlier version
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


class _HeldOut:
    """The held-out rows of a task, and the main metric of artifacts on them, each computed once."""

    def __init__(self, task: Task, params: Params, outs: Path) -> None:
        self.task, self.metric, self._params = task, MAIN_METRIC[task], params
        self.package, self.baselines = outs / "package/models" / task, outs / task / "baselines"
        self.rows = RowSet.load(outs / task / "rows/test")
        self._resamples = self.resamples_of(self.rows)
        self._samples: dict[Path, Array] = {}

    def resamples_of(self, rows: RowSet) -> Resamples:
        """Return resamples of the users of some of the rows."""
        return Resamples(rows.user_id, self._params.evaluate.resamples, self._params.seed)

    def samples(self, folder: Path) -> Array:
        """Return the metric of the artifact in `folder` on all rows, (resamples + 1,)."""
        if folder not in self._samples:
            try:
                found = evaluate_model(artifact.load(folder), self.rows, self._resamples)
            except _CANNOT_RUN as error:
                raise IncomparableError(f"{folder}: cannot be run by the current code: {error}") from error
            self._samples[folder] = found.samples[self.metric]
        return self._samples[folder]

    def result(self, rival: str, new: Array, old: Array, bound: float, rows: int | None = None) -> HeadResult:
        """Return the comparison of two models; `rows` is given if they were not evaluated on all."""
        both, difference = intervals({"new": new, "old": old}), paired_difference(new, old)
        passed = difference.low >= bound if bound < 0 else difference.low > bound
        rows = len(self.rows) if rows is None else rows
        return HeadResult(self.task, self.metric, rival, both["new"], both["old"], difference, bound, passed, rows)


def _bound(margin: float) -> float:
    """Return what the lower bound must reach: a bound of exactly zero would ask for a gain, as only the floor does."""
    return -margin if margin > 0 else -1e-12


def _with_service(held: _HeldOut, current: Path, bound: float) -> HeadResult:
    """Compare the package's model with an artifact in service, on the rows that cannot have taught it.

    Raises:
        IncomparableError: it may have been trained on every row, or the current code cannot load or run it.
    """
    new_model = artifact.load(held.package)
    try:
        old_model = artifact.load(current)
        rows = held.rows.take(np.flatnonzero(held.rows.inputs.now >= old_model.learned_until))
        if len(rows) == 0:
            raise IncomparableError(f"{current}: may have been trained on every held-out row of {held.task}")
        resamples = held.resamples_of(rows)
        # The model in service may have been trained with another catalogue.
        old = evaluate_model(RemappedPredictor(old_model, new_model.catalogue), rows, resamples).samples[held.metric]
    except _CANNOT_RUN as error:
        raise IncomparableError(f"{current}: cannot be run by the current code: {error}") from error
    if len(rows) == len(held.rows):
        new = held.samples(held.package)
    else:
        new = evaluate_model(new_model, rows, resamples).samples[held.metric]
    return held.result(old_model.name, new, old, bound, len(rows))


def _evaluate_task(held: _HeldOut, current: Path | None, margin: float) -> HeadResult:
    """Compare with the model in the package `current` if there is one and it can be run, else with the floor."""
    task, note = held.task, ""
    if current is not None and not (current / "models" / task).is_dir():
        note = "the package in service has no such model"
    elif current is not None:
        try:
            return _with_service(held, current / "models" / task, _bound(margin))
        except IncomparableError as error:
            note = f"not compared with the model in service: {str(error).splitlines()[0][:300]}"
    floor = held.baselines / _FLOOR[task]
    if not floor.exists():
        raise ReleaseError(
            f"gate: {floor}, the baseline to beat, is missing; train.{task}.baselines must include {_FLOOR[task]}. "
            f"Add it and run `dvc repro`"
        )
    return replace(held.result(floor.name, held.samples(held.package), held.samples(floor), 0.0), note=note)


def _against_baselines(held: _HeldOut, margin: float) -> HeadResult:
    """Compare the package's model with the best of the baselines trained on the same rows."""
    rivals = {path.name: held.samples(path) for path in sorted(held.baselines.iterdir())}
    best = max(rivals, key=lambda name: rivals[name][0])
    return held.result(best, held.samples(held.package), rivals[best], _bound(margin))


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
    results, baselines = [], []
    for task in present:
        held = _HeldOut(task, params, settings.outs_dir)
        results.append(_evaluate_task(held, rival, params.gate.margin))
        baselines.append(_against_baselines(held, params.gate.margin))
    verdict = Verdict(
        version,
        current,
        tuple(results),
        tuple(baselines),
        missing,
        tuple(task for task in missing if rival is not None and (rival / "models" / task).is_dir()),
    )
    write_json(Locations(settings).verdicts / f"{version}.json", verdict.as_json())
    return verdict
