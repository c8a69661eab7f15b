import ast
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.airflow
POOL = "workspace"


def test_the_dags_are_these(collected: dict[str, Any], root: Path) -> None:
    assert set(collected["dags"]) == {"computation", "materialize", "deploy"}
    files = {path.stem for path in (root / "dags").glob("*.py")}
    assert files == set(collected["dags"]), "one DAG a file, under the file's name"


def test_files_are_parsed_in_under_a_second_without_the_pipelines_packages(collected: dict[str, Any]) -> None:
    assert collected["heavy"] == []
    assert collected["seconds"] < 1


def test_every_dag_and_task_is_documented_owned_bounded_and_retried(collected: dict[str, Any]) -> None:
    for name, dag in collected["dags"].items():
        assert dag["doc"].lstrip().startswith("# "), f"{name} has no page"
        assert dag["description"]
        assert "shoplens" in dag["tags"]
        assert dag["max_active_runs"] == 1
        assert dag["catchup"] is False
        for task, spec in dag["tasks"].items():
            where = f"{name}.{task}"
            assert spec["owner"] == "shoplens", where
            assert spec["retries"] >= 1, where
            assert spec["limit"], where
            assert spec["doc"], where


def test_whatever_touches_outs_shares_the_one_slot(collected: dict[str, Any]) -> None:
    for dag in collected["dags"].values():
        for task, spec in dag["tasks"].items():
            if spec["command"]:
                assert spec["pool"] == POOL, task


def test_the_assets_join_the_dags(collected: dict[str, Any]) -> None:
    dags = collected["dags"]
    assert dags["computation"]["schedule"] is None
    assert dags["computation"]["tasks"]["features"]["outlets"] == dags["materialize"]["schedule"]
    assert dags["computation"]["tasks"]["package"]["outlets"] == dags["deploy"]["schedule"]
    assert dags["deploy"]["tasks"]["release"]["outlets"] == ["shoplens://service/"]  # Airflow's normal form


def test_the_computation_is_dvc_yaml(collected: dict[str, Any], root: Path) -> None:
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    tasks = collected["dags"]["computation"]["tasks"]
    assert list(tasks) == [*stages, "push"]
    for name, spec in stages.items():
        assert tasks[name]["command"] == f"dvc repro --single-item {name}"
        assert spec["desc"] in tasks[name]["doc"]


@pytest.mark.stores
def test_the_edges_are_those_of_dvc(collected: dict[str, Any], root: Path) -> None:
    drawn = subprocess.run(["dvc", "dag", "--dot"], cwd=root, capture_output=True, text=True, check=True).stdout
    theirs = set()
    for line in drawn.splitlines():
        if "->" in line:
            up, _, down = line.strip().rstrip(";").partition("->")
            theirs.add((up.strip().strip('"'), down.strip().strip('"')))
    tasks = collected["dags"]["computation"]["tasks"]
    ours = {(up, down) for up, spec in tasks.items() for down in spec["downstream"] if down != "push"}
    assert ours == theirs


def test_dags_import_nothing_of_the_project(root: Path) -> None:
    ours = {"shoplens", "events", "simulator", "expectations", "features", "training", "serving", "insights"}
    for path in (root / "dags").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            assert not names & ours, path
