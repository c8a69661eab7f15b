"""Which TensorFlow a word of the Makefile installs, by make's own dry run; and words that need no environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(root / name, tmp_path)
    return tmp_path


def make(project: Path, *words: str, typed: str = "", code: int = 0) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("GPU", "MAKEFLAGS", "MAKELEVEL")}
    kept["PYTHON"] = sys.executable  # else make looks for one
    command = ["make", "--no-print-directory", *words]
    done = subprocess.run(command, cwd=project, env=kept, input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def stamp(project: Path, group: str) -> None:
    (project / ".venv").mkdir(exist_ok=True)
    (project / ".venv" / f".synced-{group}").touch()


@pytest.mark.parametrize("words", [["lint"], ["demo"], ["demo", "GPU="]])
@pytest.mark.parametrize("installed", ["cpu", "gpu"])
def test_a_word_without_gpu_keeps_what_is_installed(project: Path, installed: str, words: list[str]) -> None:
    stamp(project, installed)
    assert "--group dev" not in make(project, "-n", *words), "the environment is current"
    (project / "uv.lock").touch()
    os.utime(project / ".venv" / f".synced-{installed}", (0, 0))
    assert f"--group dev --group {installed} \n" in make(project, "-n", *words), (
        "and is made current with its own group"
    )


@pytest.mark.parametrize("installed", ["cpu", "gpu"])
def test_tests_add_spark_and_nothing_takes_it_away(project: Path, installed: str) -> None:
    stamp(project, installed)
    assert f"--group dev --group {installed} --group spark\n" in make(project, "-n", "test")
    (project / ".venv" / f".synced-{installed}").rename(project / ".venv" / f".synced-{installed}-spark")
    for word in ("test", "demo", "env"):
        assert "--group dev" not in make(project, "-n", word)


@pytest.mark.parametrize(
    ("installed", "setting", "made"),
    [
        (None, None, "cpu"),
        (None, "GPU=0", "cpu"),
        (None, "GPU=1", "gpu"),
        ("cpu", "GPU=1", "gpu"),
        ("gpu", "GPU=0", "cpu"),
        ("gpu", "GPU=1", None),
        ("cpu", "GPU=0", None),
    ],
)
def test_gpu_chooses(project: Path, installed: str | None, setting: str | None, made: str | None) -> None:
    if installed is not None:
        stamp(project, installed)
    said = make(project, "-n", "env", *([setting] if setting else []))
    assert [line.split()[-1] for line in said.splitlines() if "--group dev" in line] == ([made] if made else [])


def test_status_and_stop_make_no_environment(project: Path) -> None:
    assert "`make env`" in make(project, "status")
    assert "nothing was started here" in make(project, "stop")
    assert not (project / ".venv").exists()


def test_clean_keeps_the_lake(project: Path) -> None:
    for folder in ("lake/events", "var", "outs"):
        (project / folder).mkdir(parents=True)
    make(project, "clean")
    assert (project / "lake/events").is_dir()
    assert not (project / "var").exists()
    assert not (project / "outs").exists()


@pytest.mark.parametrize(("typed", "code"), [("", 2), ("yes\n", 2), ("erase the lake\n", 0)])
def test_erasing_the_lake_asks_first(project: Path, typed: str, code: int) -> None:
    (project / "lake/events").mkdir(parents=True)
    asked = make(project, "erase-lake", typed=typed, code=code)
    assert "nothing can rebuild" in asked
    assert (project / "lake").exists() == bool(code)


def test_erasing_a_lake_that_does_not_exist_deletes_nothing(project: Path) -> None:
    assert "there is no folder lake" in make(project, "erase-lake")
