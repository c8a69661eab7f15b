"""A project for each test that runs the pipeline: this checkout, a small real slice, an empty cache."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shoplens.environment import tool_variables

# A fortieth of the households, tiny networks: every stage does its real work in seconds. Networks this small lose
# against the better baselines, which the gate would hold against them.
SMALL: dict[str, Any] = {
    "data": {"user_share": 0.025},
    "train": {
        "purchase": {
            "baselines": ["base_rate"],
            "network": {"length": 16, "width": 8, "blocks": 1, "heads": 1},
            "loop": {"epochs": 1},
        },
        "next_item": {
            "baselines": ["popularity"],
            "network": {"width": 8},
            "loop": {"epochs": 1},
        },
    },
    "evaluate": {"resamples": 50},
    "explain": {"rows": 100, "repeats": 2, "answers": 10},
}


def merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict):
            merge(into[key], value)
        else:
            into[key] = value


class Project:
    """A scratch clone of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first_run = ""
        self.first_lock: Any = None
        # Homes of its own for every tool: this checkout's Bento store must neither be used nor filled.
        self.environment = {**os.environ, **tool_variables(folder)}
        for role in ("AUTHOR", "COMMITTER"):
            # A fixed date too: clones of the same files are then the same commit, which the package names.
            # In git's internal form, the only one that dulwich, and so `dvc exp run`, reads.
            who = {"NAME": "Test", "EMAIL": "test@localhost", "DATE": "1704067200 +0000"}
            self.environment |= {f"GIT_{role}_{part}": value for part, value in who.items()}

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def run(self, *command: str) -> str:
        """Run a command in the project and return what it printed; fail the test with that when it fails."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout[-6000:]}"
        return result.stdout

    def set_params(self, change: dict[str, Any]) -> None:
        """Change some parameters of `params.yaml`."""
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text())
        merge(content, change)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def lock(self) -> Any:
        """Return the parsed `dvc.lock`."""
        return yaml.safe_load((self.folder / "dvc.lock").read_text())


@pytest.fixture(scope="session")
def make_project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Return a maker of scratch clones with the small slice as parameters."""

    def make() -> Project:
        folder = tmp_path_factory.mktemp("project")
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if name != "dvc.lock" and (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((root / name).read_bytes())
        project = Project(folder)
        project.set_params(SMALL)
        project.run("git", "init", "-q")
        project.run("git", "add", "-A")
        project.run("git", "commit", "-qm", "Start from this checkout")
        return project

    return make
