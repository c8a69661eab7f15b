"""The Dockerfiles and the scripts they carry: what is copied exists, what is installed is locked, nobody is root."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

FILES = ("pipeline", "orchestrator")


def text(root: Path, name: str) -> str:
    return re.sub(r"\\\n", " ", (root / "docker" / f"{name}.Dockerfile").read_text())


@pytest.mark.parametrize("name", FILES)
def test_copied_files_exist_and_pass_dockerignore(root: Path, name: str) -> None:
    allowed = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text(root, name), flags=re.MULTILINE)
    assert copied
    for source in " ".join(copied).split():
        assert (root / source).exists(), source
        assert source in allowed, f"{source} never reaches the build"


@pytest.mark.parametrize("name", FILES)
def test_base_images_are_pinned_and_users_are_not_root(root: Path, name: str) -> None:
    stages: dict[str, str] = {}
    for stage in re.split(r"^(?=FROM )", text(root, name), flags=re.MULTILINE)[1:]:
        base, _, alias = stage.splitlines()[0].removeprefix("FROM ").partition(" AS ")
        stages[alias or "final"] = stage
        assert re.search(r":\d+\.\d+", base) or base == "${PIPELINE_IMAGE}", base
    for alias, stage in stages.items():
        if alias not in {"build", "worker"}:  # the worker stands on the pipeline image and keeps its user
            assert re.search(r"^USER shoplens$", stage, flags=re.MULTILINE), alias
    assert "USER root" not in text(root, name)


def test_all_packages_of_the_wheel_are_copied(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = set(re.findall(r"^COPY ([a-z]+) \1$", text(root, "pipeline"), flags=re.MULTILINE))
    assert copied == packages


@pytest.mark.parametrize("name", FILES)
def test_groups_exist_and_the_lock_is_obeyed(root: Path, name: str) -> None:
    groups = set(tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"])
    sync = re.search(r"uv sync (.+)$", text(root, name), flags=re.MULTILINE)[1]
    assert "--locked" in sync
    asked = set(re.findall(r"--(?:only-)?group (\S+)", sync))
    assert asked <= groups
    assert f"{name}-production" in asked


def test_both_images_use_one_python_that_the_project_accepts(root: Path) -> None:
    bases = {base for name in FILES for base in re.findall(r"^FROM (python:\S+)", text(root, name), flags=re.MULTILINE)}
    assert len(bases) == 1, "an environment built by one Python does not run beside another"
    assert re.match(r"python:3\.1[12]\.", bases.pop())


def test_worker_stands_on_the_pipeline_image(root: Path, compose: dict[str, Any]) -> None:
    default = re.search(r"^ARG PIPELINE_IMAGE=(\S+)$", text(root, "orchestrator"), flags=re.MULTILINE)[1]
    assert default == compose["services"]["clone"]["image"]
    assert default == compose["services"]["airflow-worker"]["build"]["args"]["PIPELINE_IMAGE"]
    targets = set(re.findall(r" AS (\w+)$", text(root, "orchestrator"), flags=re.MULTILINE))
    assert {s["build"].get("target") for s in compose["services"].values() if "build" in s} - {None} <= targets


def test_commands_of_the_images_exist(root: Path) -> None:
    from shoplens.cli import COMMANDS

    command = re.search(r'^CMD \["shoplens", "(\w+)"\]$', text(root, "pipeline"), flags=re.MULTILINE)
    assert command is not None
    assert command[1] in COMMANDS
    assert "COPY docker/clone.sh /usr/local/bin/shoplens-clone" in text(root, "pipeline")


@pytest.mark.stores
def test_clone_script_fills_the_volume_once(root: Path, tmp_path: Path) -> None:
    """docker/clone.sh for real: a clone, links to both environments, and DVC pointed at the S3 store."""
    if not (root / ".git").is_dir():
        pytest.skip("not a git clone")
    volume, environments = tmp_path / "volume", tmp_path / "venvs"
    volume.mkdir()
    (environments / "pipeline").mkdir(parents=True)
    env = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SHOPLENS_ROOT": str(volume),
        "SHOPLENS_VENVS": str(environments),
        "SHOPLENS_REPOSITORY": str(root),
        "S3_BUCKET": "shop",
        "S3_ENDPOINT": "http://s3:8333",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    head = ""
    for _ in range(2):
        done = subprocess.run(
            ["sh", str(root / "docker/clone.sh")], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        now = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=volume, capture_output=True, text=True, check=True
        ).stdout
        assert head in {"", now}
        head = now
    assert (volume / "dvc.yaml").is_file()
    assert (volume / ".venv").readlink() == environments / "pipeline"
    local = (volume / ".dvc/config.local").read_text()
    assert "remote = s3" in local
    assert "url = s3://shop/dvc" in local
    assert "endpointurl = http://s3:8333" in local
    status = subprocess.run(["git", "status", "--short"], cwd=volume, capture_output=True, text=True, check=True).stdout
    assert status == "", "the clone starts clean"
