"""The package: one deterministic folder with everything that the service needs, from which the Bento is built.

manifest.json            git revision, data digests, as-of time, parameters, metrics
fallback.json            the answer for unknown users: base rate or popular items of each model
models/purchase  models/next_item        artifacts; a log without purchases, or without items, has one of them
catalogue.parquet  items.npz  background.npz  requirements.txt
shoplens/ events/ features/ training/ serving/    code, so that the Bento is self-contained
"""

import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from features.catalogue import FIRST_INDEX, Catalogue
from shoplens.errors import ReleaseError
from shoplens.files import (
    file_digest,
    folder_digest,
    manifest_version,
    read_json,
    whole_folder,
    write_json,
    write_manifest,
)
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console
from training.explanations.background import background_of, write_background
from training.heads import heads, missing_heads
from training.models import artifact
from training.rows import Inputs, RowSet

# The code dependencies of the stage in `dvc.yaml`; of events/ and shoplens/ only what a service uses.
CODE = ("events/__init__.py", "events/contract.py", "features", "training", "serving")
SHARED_CODE = ("__init__", "environment", "errors", "files", "models", "params", "settings", "stage")
# Packages that the service imports; each is pinned to its version in uv.lock.
_NEEDS = (
    "bentoml", "duckdb", "fastapi", "feast", "filelock", "ibis-framework", "joblib", "keras", "numpy", "pandas",
    "polars", "psutil", "pyarrow", "pydantic", "pydantic-settings", "pyyaml", "redis", "rich", "scikit-learn", "scipy",
    "shap", "tensorflow-cpu", "typer",
)  # fmt: skip
_POPULAR = 100  # the largest k that a request may have


def model_version(package: Path) -> str:
    """Return the version of a package, which identifies its content; a Bento adds files but has the same version.

    Raises:
        ReleaseError: there is no package.
    """
    if not (package / "manifest.json").is_file():
        raise ReleaseError(f"{package}: must be a package, but manifest.json is missing. Run `dvc repro`")
    return manifest_version(package)


def verify(package: Path) -> None:
    """Check every file of a package against its manifest.

    Raises:
        ReleaseError: a file is missing or its content differs.
    """
    for name, digest in read_json(package / "manifest.json")["files"].items():
        path = package / name
        if not path.is_file() or file_digest(path) != digest:
            raise ReleaseError(
                f"{path}: must have the digest in manifest.json, {digest[:12]}…. Run `dvc repro package`"
            )


def git_revision(root: Path) -> str:
    """Return the commit of the project, with "+changes" if tracked files were modified; "unknown" without git."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    revision = git("rev-parse", "HEAD")
    if revision is None:
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!dvc.lock")
    return f"{revision}+changes" if changed else revision


def pinned_requirements(lock: Path, needs: Iterable[str] = _NEEDS) -> str:
    """Return the content of requirements.txt: the packages that a service needs, pinned to their versions in uv.lock.

    Raises:
        ReleaseError: a package is missing in the lock.
    """
    versions = {one["name"]: one["version"] for one in tomllib.loads(lock.read_text())["package"] if "version" in one}
    missing = [name for name in needs if name not in versions]
    if missing:
        raise ReleaseError(
            f"{lock}: must contain every package that the service imports; missing: {', '.join(missing)}. Run `uv lock`"
        )
    return "".join(f"{name}=={versions[name]}\n" for name in needs)


def _popular_items(outs: Path) -> list[dict[str, Any]]:
    """Return the most popular items of the training weeks, best first."""
    folder = outs / "next_item"
    baseline = folder / "baselines/popularity"
    if not baseline.exists():
        raise ReleaseError("train.next_item.baselines: must include popularity, the fallback for unknown users. Add it")
    row: Inputs = RowSet.load(folder / "rows/validation").inputs.take(slice(0, 1))
    best = artifact.load(baseline).recommend(row, _POPULAR)
    ranked = zip(best.items[0].tolist(), best.scores[0].tolist(), strict=True)
    return [{"item_index": index, "score": round(score, 8)} for index, score in ranked if index >= FIRST_INDEX]


def copy_code(names: Iterable[str], out: Path) -> None:
    """Copy code, given by paths relative to the folder of our Python packages; of folders the .py and .yaml files."""
    root = Path(__file__).resolve().parents[1]
    for place in (root / name for name in names):
        for path in place.rglob("*") if place.is_dir() else [place]:
            if path.suffix in (".py", ".yaml"):
                target = out / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def _about(params: Params, settings: Settings) -> dict[str, Any]:
    outs = settings.outs_dir
    dataset = read_json(outs / "validated/dataset.json")
    metrics = read_json(outs / "evaluation/metrics.json")
    artifacts = {task: read_json(outs / task / "model/model.json") for task in heads(outs)}
    about = {
        "git_revision": git_revision(settings.root),
        "data": {
            "source": dataset["source"],
            "mapping": dataset["mapping"],
            "identity": dataset["identity"],
            "events": dataset["digest"],
            "features": folder_digest(outs / "features"),
        },
        "as_of": dataset["high_water"],
        "models": {task: model["name"] for task, model in artifacts.items()},
        "missing": missing_heads(outs),
        "last_n": params.features.last_n,
        "seed": params.seed,
        "metrics": {task: metrics[task]["model"] for task in artifacts},
    }
    if "purchase" in artifacts:
        horizon = read_json(outs / "purchase/rows/protocol.json")["horizon_days"]
        about |= {"horizon_days": horizon, "threshold": artifacts["purchase"]["threshold"]}
    return about


def package(params: Params, settings: Settings) -> None:
    """Collect code, weights, feature definitions and digests in outs/package: the stage `package`.

    The same inputs at one git revision give the same bytes.
    """
    outs = settings.outs_dir
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    present = heads(outs)
    fallback: dict[str, Any] = {}
    with whole_folder(outs / "package") as out:
        for task in present:
            shutil.copytree(outs / task / "model", out / "models" / task)
        catalogue.frame.write_parquet(out / "catalogue.parquet")
        if "next_item" in present:
            shutil.copyfile(outs / "next_item/items.npz", out / "items.npz")
            fallback["popular"] = _popular_items(outs)
        if "purchase" in present:
            validation = RowSet.load(outs / "purchase/rows/validation")
            fallback["base_rate"] = round(float(np.mean(validation.labels, dtype=np.float64)), 6)
            names = tuple(read_json(outs / "purchase/model/model.json")["feature_names"])
            write_background(background_of(validation.inputs.select(names), params.seed), out)
        write_json(out / "fallback.json", fallback)
        (out / "requirements.txt").write_text(pinned_requirements(settings.root / "uv.lock"))
        copy_code([*CODE, *(f"shoplens/{name}.py" for name in SHARED_CODE)], out)
        write_manifest(out, _about(params, settings))
    console.print(f"model version {model_version(outs / 'package')}")
