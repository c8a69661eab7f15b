import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shoplens.cli import COMMANDS, load
from shoplens.stage import STAGES

HEAVY = ("tensorflow", "keras", "feast", "great_expectations", "bentoml", "pandas", "polars", "duckdb", "matplotlib")


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['shoplens', '--help']\nfrom shoplens.cli import main\n"
        f"try:\n    main()\nexcept SystemExit: pass\nprint([m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.rstrip().endswith("[]")
    assert all(f" {name} " in result.stdout for name in COMMANDS)


@pytest.mark.stores
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = subprocess.run(["shoplens", name, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


@pytest.mark.stores
def test_the_stages_of_dvc_yaml_and_of_the_command_line_are_the_same(root: Path) -> None:
    graph = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert list(graph) == list(STAGES)
    for name, spec in graph.items():
        assert spec["cmd"] == f"shoplens stage {name}"
        assert callable(load(STAGES[name]))


def test_dvc_yaml_is_plain(root: Path) -> None:
    content = yaml.safe_load((root / "dvc.yaml").read_text())
    assert set(content) <= {"stages", "plots"}
    for spec in content["stages"].values():
        assert not {"foreach", "matrix", "vars", "wdir", "do"} & set(spec)
    assert "${" not in (root / "dvc.yaml").read_text()


def test_an_error_of_ours_is_a_message_and_not_a_traceback() -> None:
    result = subprocess.run(["shoplens", "stage", "conjure"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "SettingsError: stage: must be one of fetch" in result.stderr
    assert "'conjure'" in result.stderr
    assert "Traceback" not in result.stderr


def test_modules_do_no_work_on_import(root: Path) -> None:
    """Top-level statements are definitions, imports and constants: no call whose result nobody keeps."""
    for package in ("shoplens", "events", "simulator", "expectations", "features", "training", "serving", "insights"):
        for path in (root / package).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
                assert not is_call, f"{path.relative_to(root)}:{node.lineno} calls something on import"
