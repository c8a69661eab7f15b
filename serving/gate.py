"""The gate: may the packaged model replace the one in service?

For each head, both models predict the same held-out rows; the 95% interval is of (new - current), resampling users. The
new one is accepted iff the lower bound is at least -gate.margin on average precision and on NDCG@10; with nothing in
service, iff it beats the base rate and popularity (lower bound above zero).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.package import model_version
from serving.places import current_version, package_of, places
from shoplens.errors import ReleaseError
from shoplens.files import write_json
from shoplens.params import Params
from shoplens.settings import Settings
from training.evaluation.bootstrap import Interval, intervals, paired_difference, user_weights
from training.evaluation.judge import MAIN_METRIC, judge
from training.models import artifact
from training.models.translate import Translated
from training.rows.rowset import RowSet, Task

TASKS: tuple[Task, ...] = ("purchase", "next_item")
_FLOOR = {"purchase": "base_rate", "next_item": "popularity"}


@dataclass(frozen=True)
class Head:
    """The judgement of one head."""

    task: str
    metric: str
    rival: str
    new: Interval
    old: Interval
    difference: Interval
    bound: float
    passed: bool

    def line(self) -> str:
        """Return the judgement as a line for a person."""
        sign = ">=" if self.bound < 0 else ">"
        return (
            f"{self.task}: {self.metric} new {self.new}, {self.rival} {self.old}, difference {self.difference}; "
            f"lower bound {self.difference.low:+.4f} must be {sign} {self.bound:g}: "
            f"{'passed' if self.passed else 'REFUSED'}"
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


def judge_head(task: Task, package: Path, rival: Path, params: Params, outs: Path, bound: float) -> Head:
    """Compare the package's model with the artifact `rival` on the held-out rows of `outs`."""
    rows = RowSet.load(outs / task / "rows/test.parquet")
    weight = user_weights(rows.user_id, params.evaluate.resamples, params.seed)
    metric = MAIN_METRIC[task]
    old_model, new_model = artifact.load(rival), artifact.load(package / "models" / task)
    new = judge(new_model, rows, weight, params.evaluate.threshold).samples[metric]
    old = judge(Translated(old_model, new_model.catalogue), rows, weight, params.evaluate.threshold).samples[metric]
    both = intervals({"new": new, "old": old})
    difference = paired_difference(new, old)
    passed = difference.low >= bound if bound < 0 else difference.low > bound
    return Head(task, metric, old_model.name, both["new"], both["old"], difference, bound, passed)


def judge_package(params: Params, settings: Settings) -> Verdict:
    """Judge `outs/package` and keep the verdict at var/service/verdicts/VERSION.json.

    Raises:
        ReleaseError: there is no package, or a model to compare with is missing.
    """
    package, outs = settings.outs_dir / "package", settings.outs_dir
    version, current = model_version(package), current_version(settings)
    heads = []
    if current != version:
        for task in TASKS:
            if current is None:
                rival, bound = outs / task / "baselines" / _FLOOR[task], 0.0
            else:
                rival = package_of(places(settings).current.resolve()) / "models" / task
                bound = -params.gate.margin if params.gate.margin > 0 else -1e-12
            if not rival.exists():
                raise ReleaseError(
                    f"gate: {rival} is missing, the model to beat; train.{task}.baselines must have {_FLOOR[task]}"
                )
            heads.append(judge_head(task, package, rival, params, outs, bound))
    verdict = Verdict(version, current, tuple(heads))
    if heads:
        write_json(places(settings).verdicts / f"{version}.json", verdict.as_json())
    return verdict
