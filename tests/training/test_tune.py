"""`shoplens tune`: a study that can be killed and continued, whose trials are DVC experiments."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
import yaml
from filelock import FileLock

from features.catalogue import Catalogue
from features.histories import write_log
from shoplens.environment import tool_variables
from shoplens.errors import ModelError, SettingsError, StageBusyError
from shoplens.files import write_json
from shoplens.models import MODELS
from shoplens.params import parse_params
from shoplens.yaml_file import YamlFileError, set_values
from tests.training import small_tuning
from tests.training.small_tuning import Logistic, run, tuning
from training.datasets import Protocol, Rows
from training.models.contract import model_class
from training.models.counts import DecayedFrequency, ndcg
from training.models.examples import examples_of
from training.models.space import Among, Between
from training.tune import Found, Tuning, _study_name, checked_space, split_validation

pytestmark = pytest.mark.tensorflow  # the models that report; the studies themselves do without


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def make_project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Return a maker of Git repositories with this project's parameters and stages, in which `logistic` is a model."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("project")
        (folder / ".dvc").mkdir()
        for file in ("params.yaml", "dvc.yaml", "dvc.lock", ".gitignore", ".dvc/config"):
            shutil.copy(root / file, folder / file)
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "Start")
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS["purchase"], "logistic", small_tuning.TARGET)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
        yield make


@pytest.fixture(scope="module")
def studied(make_project, catalogue) -> tuple[Path, Found]:
    """A project after nine trials."""
    project = make_project()
    return project, run(project, catalogue, 9)


def trials_of(project: Path) -> list[tuple]:
    """Return (parameters, figures by check, main metric or last figure, state) of the trials that ended."""
    (journal,) = (project / "var/tune").glob("*.journal")
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name=journal.stem, storage=optuna.storages.JournalStorage(backend))
    return [
        (one.user_attrs["values"], one.intermediate_values, one.value, one.state.name)
        for one in study.trials
        if one.state.name in ("COMPLETE", "PRUNED")
    ]


def experiments(project: Path) -> list[str]:
    return sorted(git(project, "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").splitlines())


# --- studies ---


def test_a_killed_tuning_continues_with_the_trials_of_an_undisturbed_one(make_project, catalogue, root) -> None:
    killed, undisturbed = make_project(), make_project()
    program = [sys.executable, "-m", "tests.training.small_tuning", str(killed)]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(trials_of(killed)) == len(experiments(killed)) == 2
    (journal,) = (killed / "var/tune").glob("*.journal")
    with journal.open("a") as file:  # what a power failure leaves
        file.write('{"op_code":4,"worker_id":"of the kil')
    Path(f"{journal}.lock").symlink_to(journal)
    found = run(killed, catalogue, 4)
    assert found == run(undisturbed, catalogue, 4)
    assert trials_of(killed) == trials_of(undisturbed)
    assert len(experiments(killed)) == 4
    assert run(killed, catalogue, 4) == found, "a study that is complete trains nothing more"


def test_the_best_parameters_are_a_patch(studied) -> None:
    project, found = studied
    trials = trials_of(project)
    assert found.complete + found.pruned == len(trials) == 9
    complete = [value for *_, value, state in trials if state == "COMPLETE"]
    assert found.best == max(complete) > 0.7, "with the share of buyers, .56, for a model that has learned nothing"
    assert found.present == trials[0][2]
    # The first trial has the parameters of params.yaml.
    start = yaml.safe_load((project / "params.yaml").read_text())
    loop = start["train"]["purchase"]["loop"]
    assert trials[0][0] == {"loop.epochs": loop["epochs"], "loop.learning_rate": loop["learning_rate"]}
    best = next(values for values, _, value, _ in trials if value == found.best)
    start["train"]["purchase"]["model"] = "logistic"
    loop |= {name.removeprefix("loop."): value for name, value in best.items()}
    assert yaml.safe_load(found.text) == start


def test_every_trial_is_an_experiment(studied) -> None:
    project, _ = studied
    trials = trials_of(project)
    assert git(project, "status", "--porcelain") == "", "neither files nor the index have changed"
    shown = subprocess.run(
        ["dvc", "exp", "show", "--csv", "--only-changed"],
        cwd=project,
        env={**os.environ, **tool_variables(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = {line["Experiment"]: line for line in csv.DictReader(io.StringIO(shown.stdout))}
    for number, (values, _, value, state) in enumerate(trials):
        line = next(line for name, line in lines.items() if name.endswith(f"-{number}"))
        assert line["train.purchase.loop.learning_rate"] == f"{values['loop.learning_rate']:.5g}"
        assert line["state"] == state.lower()
        shown_value = line["tuning.average_precision"]
        assert float(shown_value or "nan") == pytest.approx(
            value if state == "COMPLETE" else np.nan, rel=1e-3, nan_ok=True
        )
    # Nobody knows what the stages that train and evaluate would leave with these parameters.
    commit = git(project, "for-each-ref", "--format=%(objectname)", "refs/exps").split()[0]
    lock = yaml.safe_load(git(project, "show", f"{commit}:dvc.lock"))
    assert set(lock["stages"]) == {"fetch", "ingest", "validate", "features", "train_next_item"}


def test_a_trial_worse_than_the_median_ends_early(studied) -> None:
    project, found = studied
    complete: list[dict[int, float]] = []
    for _, figures, _, state in trials_of(project):
        if state == "PRUNED":
            at = max(figures)
            others = [one[at] for one in complete if at in one]
            assert at < 4
            assert max(figures.values()) < np.median(others)
        else:
            assert max(figures) == 4
            complete.append(figures)
    assert found.pruned == 9 - len(complete) > 0


def test_trials_that_diverge_are_recorded_and_not_repeated(make_project, catalogue, monkeypatch) -> None:
    monkeypatch.setattr(Logistic, "space", {"loop.learning_rate": Between(0.1, 1e308, log=True)})
    project = make_project()
    found = run(project, catalogue, 4)
    states = [state for *_, state in trials_of(project)]
    assert states.count("PRUNED") == found.pruned > 0
    assert len({values["loop.learning_rate"] for values, *_ in trials_of(project)}) == 4
    shown = git(project, "for-each-ref", "--format=%(objectname)", "refs/exps").split()
    files = [git(project, "show", f"{commit}:outs/tuning/train_purchase.json") for commit in shown]
    assert sum('"state": "diverged"' in file for file in files) == found.pruned


def test_a_study_has_one_writer(studied, catalogue) -> None:
    project, _ = studied
    (journal,) = (project / "var/tune").glob("*.journal")
    with FileLock(journal.with_suffix(".only")), pytest.raises(StageBusyError, match="another process is running it"):
        run(project, catalogue, 10)


def test_a_study_belongs_to_its_data_and_parameters(root, catalogue, make_project) -> None:
    given = tuning(root, catalogue)

    def name(one: Tuning) -> str:
        return _study_name(one, checked_space(one)[0], parse_params(one.text, "params.yaml"))

    def changed(path: str, value: float) -> Tuning:
        return replace(given, text=set_values(given.text, {path: value}))

    assert name(changed("train.purchase.loop.learning_rate", 0.01)) == name(given), "this one is tuned"
    others = [
        replace(given, digest="other data"),
        *(changed(path, value) for path, value in (("seed", 8), ("train.purchase.members", 3))),
        changed("train.rows.test_weeks", 3),
    ]
    assert len({name(given), *map(name, others)}) == 5


def test_without_git_nothing_is_trained(make_project, catalogue) -> None:
    project = make_project()
    shutil.rmtree(project / ".git")
    with pytest.raises(SettingsError, match="must be in a Git repository with a commit"):
        run(project, catalogue, 1)


# --- rows and spaces ---


def test_the_second_half_of_the_validation_weeks_scores(make) -> None:
    days = np.datetime64("2024-03-01", "us") + np.arange(4) * np.timedelta64(7, "D")
    train, validation, test = (make("purchase", 8, seed) for seed in (1, 2, 3))
    validation = replace(validation, inputs=replace(validation.inputs, now=np.repeat(days, 2)))
    train.inputs.now[:] = days[0] - np.timedelta64(7, "D")
    for window, early in ((7, [0, 1, 2, 3]), (14, [0, 1])):  # of 14 days, that of week 2 reaches into the second half
        rows = Rows(train, validation, test, days[-1] + np.timedelta64(window, "D"), Protocol("weekly_active", 7, 7))
        found = split_validation(rows)
        np.testing.assert_array_equal(found.validation.user_id, validation.user_id[early])
        np.testing.assert_array_equal(found.test.user_id, validation.user_id[4:])
    with pytest.raises(SettingsError, match=r"validation_weeks: .* 4 cut-off\(s\) do not"):
        split_validation(
            Rows(train, validation, test, days[-1] + np.timedelta64(21, "D"), Protocol("weekly_active", 7, 7))
        )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "logistic has none"),
        ({"loop.momentum": Between(0.1, 0.9)}, r"loop\.momentum must be a parameter of train\.purchase"),
        ({"loop": Among((1, 2))}, "loop must be a parameter"),
        ({"network.dropout": Between(0.0, 1.5)}, r"(?s)network\.dropout .*received 1\.5: .*less than 1"),
        ({"loss": Among(("binary_crossentropy", "hinge"))}, "received 'hinge'"),
        ({"loop.max_train_rows": Between(1, 9)}, "cannot change between trials"),
        ({"loop.optimizer": Between(1, 2)}, "received 1"),
    ],
)
def test_a_wrong_space_is_rejected(make_project, catalogue, monkeypatch, space, message) -> None:
    monkeypatch.setattr(Logistic, "space", space)
    with pytest.raises(ModelError if space else SettingsError, match=message):
        checked_space(tuning(make_project(), catalogue))


def test_a_wrong_range_is_rejected() -> None:
    with pytest.raises(ModelError, match="low must be below high; received 3 and 3"):
        Between(3, 3)
    with pytest.raises(ModelError, match="low must be positive with log"):
        Between(0.0, 1.0, log=True)
    with pytest.raises(ModelError, match="at least two different choices"):
        Among((4, 4))


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("purchase", "hazard_network"),
        ("purchase", "lstm"),
        ("next_item", "lambdarank"),
        ("next_item", "listwise_ranker"),
    ],
)
def test_every_space_fits_the_parameters(name, task, root, catalogue) -> None:
    text = (root / "params.yaml").read_text()
    space, present = checked_space(replace(tuning(root, catalogue), task=task, model=name, text=text))
    assert len(space) >= 3
    for path, value in present.items():
        one = space[path]
        assert value in one.choices if isinstance(one, Among) else one.low <= value <= one.high


def test_present_values_outside_the_space_belong_to_it() -> None:
    assert Between(2, 8).including(12) == Between(2, 12)
    assert Between(0.1, 0.4, log=True).including(0.05) == Between(0.05, 0.4, log=True)
    assert Among((32, 64)).including(48) == Among((32, 64, 48))
    assert Among((32, 64)).including(64) == Among((32, 64))


def test_a_value_is_replaced_and_nothing_else(root: Path) -> None:
    text = "# head\na: {b: 1, c: 'x'}   # why\nd:\n  - 2\n"
    assert set_values(text, {"a.c": "yes", "a.b": 0.25}) == "# head\na: {b: 0.25, c: yes}   # why\nd:\n  - 2\n"
    for path in ("a", "a.z", "d", "a.b.c"):
        with pytest.raises(YamlFileError, match="must lead to a value"):
            set_values(text, {path: 1})
    own = (root / "params.yaml").read_text()
    assert set_values(own, {"train.purchase.model": "hazard_blend"}) == own


# --- what the ranker reports, and the command ---


def test_the_ranker_reports_the_ndcg_of_its_ranking(rows, recipe, catalogue) -> None:
    """Rows of which no target is a candidate count too."""
    found, own = rows("next_item"), recipe("next_item", epochs=2)
    # Without rules, which are counted later for the rows to rank; ten popular items, so that no place is filled.
    few = own.candidates.model_copy(update={"neighbours": 0, "popular": 10, "memory": 1})
    own = replace(own, members=1, candidates=few)
    model, seen = model_class("listwise_ranker")(own, catalogue), []
    model.report = lambda share, figure: seen.append((share, figure))
    model.fit(found.train, found.validation, None)
    assert [share for share, _ in seen] == [0.5, 1.0]
    assert seen[1][1] > seen[0][1]
    _, held_out = examples_of(own, model._maker, found.train, found.validation)
    assert len(held_out) < held_out.made_from == 100
    reported = held_out.ndcg(model._members[0].scores(model._scaled(held_out)))
    assert reported == pytest.approx(ndcg(model.recommend(found.validation.inputs, 10), found.validation), abs=1e-3)


@pytest.fixture
def outs(make_project, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose outs hold twenty weeks of thirty people who buy their favourite item, and one by chance."""
    start, random = datetime(2024, 1, 1, tzinfo=UTC), np.random.default_rng(0)
    items = catalogue.frame["item_id"].to_list()
    lines = [
        (f"u{user}", start + timedelta(days=7 * week + user % 7), item)
        for user in range(30)
        for week in range(20)
        for item in (items[user % 12], items[random.integers(12)])
    ]
    users, times, bought = (list(column) for column in zip(*lines, strict=True))
    events = pl.DataFrame(
        {
            "event_id": [f"e{k:04}" for k in range(len(lines))],
            "event_time": times,
            "ingested_at": times,
            "event_name": ["purchase"] * len(lines),
            "user_id": users,
            "session_id": [None] * len(lines),
            "order_id": [f"{user} {time:%j}" for user, time in zip(users, times, strict=True)],
            "item_id": bought,
            "quantity": [1] * len(lines),
            "amount": [2.0] * len(lines),
        },
        schema_overrides={
            **dict.fromkeys(("event_time", "ingested_at"), pl.Datetime("us", "UTC")),
            "session_id": pl.String,
            "quantity": pl.Int64,
        },
    )
    project = make_project()
    validated, features = project / "outs/validated", project / "outs/features"
    validated.mkdir(parents=True)
    features.mkdir()
    events.write_parquet(validated / "events.parquet")
    until = start + timedelta(weeks=20)
    dataset = {"identity": "user", "start": start.isoformat(), "high_water": until.isoformat(), "digest": "small"}
    write_json(validated / "dataset.json", dataset)
    write_json(features / "features.json", {})
    catalogue.frame.write_parquet(features / "catalogue.parquet")
    pl.DataFrame({"placement": []}, schema={"placement": pl.String}).write_parquet(
        features / "promotions.parquet"
    )  # the shop announces nothing
    write_log([events], events.height, catalogue, features / "event_log")
    monkeypatch.setenv("SHOPLENS_ROOT", str(project))
    return project


def test_the_command_prints_a_patch_and_writes_it_on_request(
    outs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from training.cli import tune

    with pytest.raises(SettingsError, match="--model: must be a model with a search space; decayed_frequency has none"):
        tune("next_item", trials=2, model="decayed_frequency")
    # A count that is trained in no time; of equal trials the first is the best.
    monkeypatch.setattr(DecayedFrequency, "space", {"candidates.popular": Between(4, 40)})
    before = (outs / "params.yaml").read_text()
    tune("next_item", trials=2, model="decayed_frequency")
    said = capsys.readouterr().out
    assert "2 trials complete, 0 pruned or diverged" in said
    assert "-    model: listwise_ranker\n+    model: decayed_frequency\n" in said
    (value, start) = (float(one) for one in re.findall(r"\.\d{4}", said)[:2])
    assert value == start > 0.6, "the favourite in the first place gives .61 of two targets, chance .46"
    assert (outs / "params.yaml").read_text() == before
    tune("next_item", trials=2, model="decayed_frequency", apply=True)
    assert "written to" in capsys.readouterr().out
    assert (outs / "params.yaml").read_text() == before.replace("model: listwise_ranker", "model: decayed_frequency")
