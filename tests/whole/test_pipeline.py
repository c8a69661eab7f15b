"""The whole pipeline on a small real slice of The Complete Journey."""

import pytest
import yaml

from shoplens.files import read_json

pytestmark = [pytest.mark.whole, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def project(project_by_repro):
    return project_by_repro


def test_a_clean_clone_runs_every_stage_and_a_second_run_does_nothing(project) -> None:
    stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    for name, spec in stages.items():
        assert f"Running stage '{name}'" in project.first_run
        for out in [*spec.get("outs", []), *spec.get("metrics", []), *spec.get("plots", [])]:
            assert (project.folder / out).exists(), f"{name} did not leave {out}"
    before = project.lock()
    again = project.run("dvc", "repro")
    assert "Running stage" not in again
    assert "up to date" in again
    assert project.lock() == before


def test_the_accounts_add_up(project) -> None:
    account = read_json(project.folder / "outs/events/account.json")
    for table in account["tables"].values():
        assert table["rows_in"] == table["accepted"] + sum(table["quarantined"].values()) + table["exact_duplicates"]
    # The account is of the source; the slice is taken after it.
    assert account["tables"]["transactions.parquet"]["rows_in"] == 1_469_307


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        ({"train": {"next_item": {"loop": {"epochs": 2}}}}, {"train_next_item"}),
        ({"train": {"purchase": {"model": "lstm"}}}, {"train_purchase"}),
        ({"explain": {"repeats": 3}}, {"explain"}),
        ({"evaluate": {"resamples": 60}}, {"evaluate"}),
        ({"expectations": {"max_bad_share": 0.06}}, {"validate"}),
        ({"features": {"owners": {"default": "crm"}}}, {"features"}),
        ({"gate": {"margin": 0.01}}, set()),
    ],
)
def test_one_parameter_touches_only_the_stages_that_use_it(project, change: dict, reruns: set) -> None:
    path = project.folder / "params.yaml"
    before = path.read_bytes()
    try:
        project.set_params(change)
        status = yaml.safe_load(project.run("dvc", "status", "--json")) or {}
    finally:
        path.write_bytes(before)
    touched = {name for name, causes in status.items() if any("changed deps" in cause for cause in causes)}
    touched &= {name for name, causes in status.items() if "params.yaml" in str(causes)}
    assert touched == reruns


def test_the_users_views_of_dvc_work(project) -> None:
    metrics = project.run("dvc", "metrics", "show")
    assert "outs/evaluation/metrics.json" in metrics
    assert "average_precision" in metrics
    project.run("dvc", "plots", "show", "--out", "var/plots")
    page = (project.folder / "var/plots/index.html").read_text()
    for plot in yaml.safe_load((project.folder / "dvc.yaml").read_text())["plots"]:
        assert (plot if isinstance(plot, str) else next(iter(plot))) in page


def test_an_experiment_with_another_model_reruns_and_is_listed(project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "train.purchase.model=lstm")
    assert "Running stage 'train_purchase'" in output
    assert "Running stage 'train_next_item'" not in output
    table = project.run("dvc", "exp", "show", "--csv")
    assert "lstm" in table
    # Back to what was committed: nothing is trained again, DVC knows the outs of these parameters.
    project.run("git", "checkout", "-q", "--", "params.yaml")
    assert "Running stage" not in project.run("dvc", "repro")
