"""Searches the parameters of a model on the validation rows; each trial becomes a DVC experiment.

A model gets the first half of the validation weeks as its validation rows, and is scored on the second half. Scores on
its own validation rows would be too good: it counts rules between items and calibrates probabilities on them. Test
rows are never read. The rows stay in memory from one trial to the next.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from features.catalogue import Catalogue
from shoplens.errors import DivergedError, ModelError, SettingsError, StageBusyError
from shoplens.params import Params, parse_params
from shoplens.stage import console
from shoplens.yaml_file import YamlFileError, read_yaml, set_values
from training.datasets import Rows
from training.evaluate import MAIN_METRIC
from training.experiment import head_commit, save_experiment
from training.fit import recipe_of, train_model
from training.metrics import purchase_metrics, ranking_metrics
from training.models.contract import model_class
from training.models.ranking import Predicts, rank_all
from training.models.space import Between, Space, Value
from training.rows import RowSet, Task

_CHECKS = 4  # a trial is compared with earlier ones at each quarter of its training, however many epochs that is
_WITHOUT_PRUNING = 4  # trials that are completed before the first is pruned
_AT_RANDOM = 8  # trials before the sampler learns from them; the first has the present parameters
_FIXED = ("model", "baselines", "loop.max_train_rows")  # may not be in a space: the rows are built once
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Tuning:
    """The model that is tuned, and its data.

    Attributes:
        task: The task.
        model: Name of the model.
        text: Content of params.yaml.
        rows: Rows of the task; `split_validation` prepares them.
        catalogue: The items.
        digest: Digest of the data and the code; results of different digests are never in one study.
        root: The project folder, whose Git repository gets the experiments.
        folder: The folder of the studies.
    """

    task: Task
    model: str
    text: str
    rows: Rows
    catalogue: Catalogue
    digest: str
    root: Path
    folder: Path

    def params_with(self, values: Mapping[str, Value]) -> str:
        """Return the content of params.yaml with this model and the values of a trial."""
        return set_values(self.text, {f"train.{self.task}.{k}": v for k, v in {"model": self.model, **values}.items()})


@dataclass(frozen=True)
class Found:
    """The result of a study.

    Attributes:
        text: Content of params.yaml with the best parameters.
        best: The main metric with them, on the second half of the validation weeks.
        present: The main metric with the parameters of params.yaml when the study began; None if they diverged.
        complete: Number of trials that were trained to the end.
        pruned: Number of trials that were pruned or diverged.
    """

    text: str
    best: float
    present: float | None
    complete: int
    pruned: int


def split_validation(rows: Rows) -> Rows:
    """Return the rows with the second half of the validation weeks as the test rows.

    Rows of the first half whose label window reaches into the second are left out.

    Raises:
        SettingsError: there are too few weeks.
    """
    now = rows.validation.inputs.now
    times = np.unique(now)
    middle = times[len(times) // 2]
    window = rows.learned_until - max(rows.train.inputs.now.max(), now.max())
    early, late = np.flatnonzero((now < middle) & (now + window <= middle)), np.flatnonzero(now >= middle)
    if not len(early):
        raise SettingsError(
            f"train.rows.validation_weeks: must give two halves whose label windows do not overlap, to tune; "
            f"{len(times)} cut-off(s) do not. Raise it"
        )
    return replace(rows, validation=rows.validation.take(early), test=rows.validation.take(late))


def checked_space(tuning: Tuning) -> tuple[Space, dict[str, Value]]:
    """Return the space of the model, widened to contain the present values, and those values.

    Raises:
        SettingsError: the model has no space.
        ModelError: a path is not a parameter that can be tuned, or a value breaks the parameter's rule.
    """
    declared = model_class(tuning.model).space
    if not declared:
        raise SettingsError(
            f"--model: must be a model with a search space; {tuning.model} has none. Add `space` to its class"
        )
    own = read_yaml(tuning.text)["train"][tuning.task]
    space, present = {}, {}
    for name, one in declared.items():
        for end in one.ends:
            try:
                if name in _FIXED:
                    raise YamlFileError("it cannot change between trials")
                parse_params(tuning.params_with({name: end}), "params.yaml")
            except (YamlFileError, SettingsError) as error:
                raise ModelError(
                    f"space of {tuning.model}: {name} must be a parameter of train.{tuning.task} with valid values; "
                    f"received {end!r}: {error}"
                ) from error
        value = own
        for part in name.split("."):
            value = value[part]
        space[name], present[name] = one.including(value), value
    return space, present


def tune(tuning: Tuning, trials: int) -> Found:
    """Run a study, or continue an interrupted one, until it has `trials` trials; return its result.

    Interruptions do not change the trials, because the sampler of each is seeded by its number.

    Raises:
        StageBusyError: another process is running the study.
        SettingsError: the project has no Git commit, or every trial diverged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    head_commit(tuning.root)
    space, present = checked_space(tuning)
    params = parse_params(tuning.text, "params.yaml")
    with _study(tuning.folder, _study_name(tuning, space, params)) as study:
        while (number := len(study.get_trials(deepcopy=False, states=_ENDED))) < trials:
            study.sampler = TPESampler(n_startup_trials=_AT_RANDOM, seed=params.seed + number)
            if number == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                study.enqueue_trial(present)
            _run(tuning, space, study.ask(), number)
        ended = study.get_trials(deepcopy=False, states=_ENDED)
        complete = [one for one in ended if one.state is TrialState.COMPLETE]
        if not complete:
            raise SettingsError(f"tune: a trial must be trained to the end; none of {len(ended)} was. Run more trials")
        best = study.best_trial
        text = tuning.params_with(best.user_attrs["values"])
        first = ended[0].value if ended[0].state is TrialState.COMPLETE else None
        return Found(text, study.best_value, first, len(complete), len(ended) - len(complete))


def _study_name(tuning: Tuning, space: Space, params: Params) -> str:
    """Return a name that changes with everything that results depend on, except the parameters that are tuned."""
    own = params.train.model_dump(mode="json")[tuning.task]
    for name in ("model", "baselines", *space):
        *parents, leaf = name.split(".")
        node = own
        for part in parents:
            node = node[part]
        node.pop(leaf, None)
    parts = [tuning.digest, repr(space), params.seed, params.train.rows.model_dump(), params.train.device, own]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"tune-{tuning.model}-{digest[:8]}"


@contextmanager
def _study(folder: Path, name: str) -> Iterator[optuna.Study]:
    """Open the study as its only writer, after repairing what an interrupted writer left."""
    folder.mkdir(parents=True, exist_ok=True)
    journal, only = folder / f"{name}.journal", FileLock(folder / f"{name}.only")
    try:
        only.acquire(timeout=0)
    except Timeout:
        raise StageBusyError(f"study {journal}: another process is running it; wait for it") from None
    try:
        _repair(journal)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=name,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_WITHOUT_PRUNING),
            load_if_exists=True,
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        yield study
    finally:
        only.release()


def _repair(journal: Path) -> None:
    """Remove what a killed writer left: its lock, for which Optuna would wait, and an incomplete last line."""
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if journal.exists():
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            journal.write_bytes(whole)


class _Watch:
    """Reports the figures of a trial to the study, and ends a trial that is worse than the median."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial, self._checks = trial, 0
        self.share = 0.0

    def __call__(self, share: float, figure: float) -> None:
        """See `training.models.contract.Report`."""
        self.share = share
        checks = int(_CHECKS * share + 1e-9)
        if checks == self._checks:
            return
        self._checks = checks
        self._trial.report(figure, checks)
        if share < 1 and self._trial.should_prune():
            raise optuna.TrialPruned


def _run(tuning: Tuning, space: Space, trial: optuna.Trial, number: int) -> None:
    """Train and score one trial; save its experiment, then end it in the study."""
    values = {name: _suggest(trial, name, space) for name in space}
    trial.set_user_attr("values", values)
    text, main = tuning.params_with(values), MAIN_METRIC[tuning.task]
    recipe, watch = recipe_of(tuning.task, parse_params(text, "params.yaml")), _Watch(trial)
    metrics: dict[str, float] = {}
    try:
        model = train_model(tuning.model, recipe, tuning.rows, tuning.catalogue, report=watch)
        metrics, state = _metrics(model, tuning.rows.test), "complete"
    except optuna.TrialPruned:
        state = "pruned"
    except DivergedError:
        state = "diverged"
    name = f"{trial.study.study_name}-{number}"
    shown = {"tuning": metrics, "state": state, "trained": watch.share if state == "pruned" else 1.0}
    save_experiment(tuning.root, name, f"train_{tuning.task}", text, shown)
    if state == "complete":
        trial.study.tell(trial, metrics[main])
    else:  # the sampler learns from a pruned trial, and would ignore a failed one
        trial.study.tell(trial, state=TrialState.PRUNED)
    console.print(f"{name} {state}: {main} {metrics.get(main, float('nan')):.4f} with {values}")


def _suggest(trial: optuna.Trial, name: str, space: Space) -> Value:
    one = space[name]
    if not isinstance(one, Between):
        chosen: Value = trial.suggest_categorical(name, one.choices)  # type: ignore[assignment]  # None is no choice
        return chosen
    if isinstance(one.low, int) and isinstance(one.high, int):
        return trial.suggest_int(name, one.low, one.high, log=one.log)
    return float(f"{trial.suggest_float(name, one.low, one.high, log=one.log):.3g}")  # for people who read params.yaml


def _metrics(model: Predicts, rows: RowSet) -> dict[str, float]:
    if rows.task == "purchase":
        return purchase_metrics(rows.labels, model.predict(rows.inputs), model.threshold)
    found = ranking_metrics(rank_all(model, rows.inputs), rows.target_sets)
    return {name: float(values.mean()) for name, values in found.items()}
