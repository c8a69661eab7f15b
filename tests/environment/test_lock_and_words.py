"""The lock holds what pyproject.toml says, and `make help` names every word of the Makefile."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest


def uv(root: Path) -> str:
    found = shutil.which("uv") or next((str(p) for p in [root / ".tools/uv/bin/uv"] if p.exists()), None)
    if found is None:
        pytest.skip("no uv on PATH and none made by `make env`")
    return found


def targets(root: Path) -> dict[str, str]:
    """Each documented target with its help text."""
    return dict(re.findall(r"^([a-z-]+):.*## (.+)$", (root / "Makefile").read_text(), flags=re.MULTILINE))


def test_lock_is_current(root: Path) -> None:
    done = subprocess.run(
        [uv(root), "lock", "--check", "--offline"], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_word_is_in_help(root: Path) -> None:
    words = targets(root)
    phony = set(re.search(r"^\.PHONY: (.+)$", (root / "Makefile").read_text(), flags=re.MULTILINE)[1].split())
    command = ["make", "--no-print-directory", "help"]
    out = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in out.splitlines()] == list(words)
    assert set(words) <= phony, "a file of that name would stop the word from working"


def test_groups_that_run_together_do_not_conflict(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    conflicts = [{entry["group"] for entry in group} for group in project["tool"]["uv"]["conflicts"]]
    pairs_used = [
        {"pipeline", "cpu"},
        {"pipeline", "dev"},
        {"pipeline", "gpu"},
        {"pipeline-production", "cpu"},
        {"orchestrator", "orchestrator-dev"},
    ]
    for used in pairs_used:
        assert used <= set(project["dependency-groups"])
        assert not any(used <= conflict for conflict in conflicts)


def test_the_two_environments_never_meet(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    conflicts = [{entry["group"] for entry in group} for group in project["tool"]["uv"]["conflicts"]]
    for inside in ("pipeline", "pipeline-production", "dev"):
        for outside in ("orchestrator", "orchestrator-production"):
            assert any({inside, outside} <= conflict for conflict in conflicts), (inside, outside)
