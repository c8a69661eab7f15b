"""Saves a trial as a DVC experiment: its parameters and metrics, without the outputs of a stage.

`dvc exp save` snapshots the working tree. The trial's parameters would have to be written there, and the lock file
would claim that the outputs of the last run came from them. So the commit is made beside the working tree, in an index
of its own; a reference below refs/exps makes it an experiment (https://doc.dvc.org/user-guide/experiment-management).
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from shoplens.errors import SettingsError

_METRICS = "outs/tuning"  # ignored by git, so that an applied experiment adds no file to the next commit


def save_experiment(root: Path, name: str, stage: str, params: str, metrics: dict[str, Any]) -> None:
    """Save an experiment of the present commit; one with the same name is replaced.

    Args:
        root: The project folder.
        name: Name of the experiment, as in `dvc exp show`.
        stage: The stage that the trial stands for. Its outputs, and those of the stages that need them, are not known
            with these parameters, so the experiment's dvc.lock leaves them out.
        params: Content of the experiment's params.yaml.
        metrics: Metrics, which `dvc exp show` displays.

    Raises:
        SettingsError: the project is not in a Git repository with a commit.
    """
    from dvc.repo.experiments.refs import ExpRefInfo

    head, prefix = head_commit(root), _git(root, "rev-parse", "--show-prefix")
    files = {
        "params.yaml": params,
        f"{_METRICS}/dvc.yaml": yaml.safe_dump({"metrics": [f"{stage}.json"]}),
        f"{_METRICS}/{stage}.json": json.dumps(metrics, indent=2),
    }
    if (root / "dvc.lock").is_file():
        lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        files["dvc.lock"] = yaml.safe_dump(_without(lock, stage), sort_keys=False)
    with tempfile.TemporaryDirectory() as folder:
        own = {"GIT_INDEX_FILE": f"{folder}/index"}
        _git(root, "read-tree", "HEAD", **own)
        _git(root, "add", "--update", **own)  # an experiment has the changed files that git tracks, as DVC's own have
        blobs = {path: _git(root, "hash-object", "-w", "--stdin", given=content) for path, content in files.items()}
        entries = "".join(f"100644 {blob}\t{prefix}{path}\n" for path, blob in blobs.items())
        _git(root, "update-index", "--add", "--index-info", given=entries, **own)
        tree = _git(root, "write-tree", **own)
    commit = _git(root, "commit-tree", tree, "-p", head, "-m", f"Trial {name}")
    _git(root, "update-ref", str(ExpRefInfo(head, name)), commit)


def head_commit(root: Path) -> str:
    """Return the commit that experiments belong to.

    Raises:
        SettingsError: there is none, or Git does not know whose name to write on experiments.
    """
    try:
        for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            _git(root, "var", who)
        return _git(root, "rev-parse", "--verify", "HEAD")
    except subprocess.CalledProcessError as error:
        raise SettingsError(
            f"{root}: must be in a Git repository with a commit, a user name and an email, because each trial is saved "
            f"as a DVC experiment; git reports: {error.stderr.strip()}"
        ) from error


def _git(root: Path, *arguments: str, given: str | None = None, **variables: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        env={**os.environ, **variables},
        input=given,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _without(lock: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return the content of dvc.lock without a stage and those that depend on it, directly or through others."""
    stages, gone = lock["stages"], {stage}
    while True:
        outs = [Path(out["path"]) for name in gone & stages.keys() for out in stages[name].get("outs", ())]
        found = {
            name
            for name, one in stages.items()
            if any(Path(dep["path"]).is_relative_to(out) for dep in one.get("deps", ()) for out in outs)
        }
        if found <= gone:
            return {**lock, "stages": {name: one for name, one in stages.items() if name not in gone}}
        gone |= found
