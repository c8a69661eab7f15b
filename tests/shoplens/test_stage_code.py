"""A stage of dvc.yaml depends on the code that it runs, and on no other."""

from pathlib import Path, PurePosixPath
from typing import Any

import grimp
import pytest
import yaml

from serving.package import CODE, SHARED_CODE
from tests.shoplens.stage_code import PACKAGES, modules_of_stages, path_of

# Parameters, settings, files and errors: shared by all, and no value that a stage leaves depends on them.
SHARED = "shoplens"
# Never run by a stage; the package copies features/ and serving/ whole, for a service runs alone.
NEVER = ("simulator", "events/collector", "events/erase.py", "events/replay.py", "events/cli.py", "bench", "dags")
MAPPINGS = "events/mappings"  # not code: what `data.mapping` names is usually one of them
NO_STAGE = (*NEVER, "features/live", "features/online_stores", "features/online.py", "features/materialize.py")


@pytest.fixture(scope="module")
def declared(root: Path) -> dict[str, list[str]]:
    """Stage -> its dependencies on code."""
    stages: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {
        name: [dep for dep in spec["deps"] if dep.split("/")[0] in PACKAGES and not dep.startswith(f"{SHARED}/")]
        for name, spec in stages.items()
    }


@pytest.fixture(scope="module")
def needed(root: Path) -> dict[str, set[str]]:
    """Stage -> the files of the modules that it runs."""
    return {
        stage: {path_of(name).relative_to(root).as_posix() for name in names if name.split(".")[0] != SHARED}
        for stage, names in modules_of_stages().items()
    }


def _covers(declared: str, file: str) -> bool:
    return PurePosixPath(file).is_relative_to(declared)


def test_every_module_that_a_stage_runs_is_declared(declared: dict[str, Any], needed: dict[str, set[str]]) -> None:
    missing = {
        stage: sorted(file for file in files if not any(_covers(dep, file) for dep in declared[stage]))
        for stage, files in needed.items()
    }
    assert {stage: files for stage, files in missing.items() if files} == {}, "add these to deps in dvc.yaml"


def test_every_declared_path_exists_and_is_run(
    root: Path, declared: dict[str, Any], needed: dict[str, set[str]]
) -> None:
    for stage, deps in declared.items():
        for dep in deps:
            assert (root / dep).exists(), f"{stage}: {dep} does not exist"
            run = dep == MAPPINGS or any(_covers(dep, file) for file in needed[stage])
            assert run or stage == "package", f"{stage}: {dep} is not run; remove it from deps in dvc.yaml"


def test_an_edited_mapping_is_read_again(declared: dict[str, Any]) -> None:
    assert [stage for stage, deps in declared.items() if MAPPINGS in deps] == ["fetch", "ingest"]


def test_editing_the_simulator_the_collector_or_the_online_store_reruns_nothing(declared: dict[str, Any]) -> None:
    for stage, deps in declared.items():
        for path in NEVER if stage == "package" else NO_STAGE:
            assert not any(_covers(dep, path) or _covers(path, dep) for dep in deps), f"{stage} depends on {path}"


def test_the_package_copies_what_it_declares(declared: dict[str, Any]) -> None:
    assert set(declared["package"]) == set(CODE)


def test_the_package_has_every_module_that_the_service_imports(root: Path) -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    modules = graph.find_upstream_modules("serving.service")
    shared = {name.removeprefix("shoplens.") for name in modules if name.startswith("shoplens.")}
    called = {"cli", "yaml_file"}  # by `shoplens stage` and for params.yaml, which no service reads
    assert shared - set(SHARED_CODE) == called
    files = {path_of(name).relative_to(root).as_posix() for name in modules if name.split(".")[0] != SHARED}
    assert [file for file in sorted(files) if not any(_covers(place, file) for place in CODE)] == []
