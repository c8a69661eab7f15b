"""Builds the Bento of a flat table's model from a deterministic package, whose digest is the version.

model/                    training.table.artifact
table.json                the source data; the columns that the model does not use, with the reasons
requirements.txt          pinned to uv.lock
manifest.json             digest of every file
shoplens/ training/ serving/      exactly the code that the service imports
"""

import shutil
from pathlib import Path
from typing import Any

from serving.package import CODE_ROOT, pinned_requirements
from serving.release import build_bento
from serving.table.predictor import ABOUT, MANIFEST, table_version
from shoplens.digest import file_digest
from shoplens.files import write_json

NAME = "shoplens_table"
CODE = (
    *(f"shoplens/{name}.py" for name in ("__init__", "digest", "errors", "files")),
    "training/__init__.py",
    *(f"training/table/{name}.py" for name in ("__init__", "artifact", "inputs", "models", "network")),
    "serving/__init__.py",
    *(f"serving/table/{name}.py" for name in ("__init__", "predictor", "schemas", "service")),
)
_NEEDS = (
    "bentoml", "fastapi", "filelock", "joblib", "numpy", "pandas", "polars", "pydantic", "scikit-learn", "scipy",
    "threadpoolctl",
)  # fmt: skip
_NETWORK_NEEDS = ("keras", "tensorflow-cpu")
_INCLUDED = ["**/*.py", "**/*.json", "**/*.joblib", "**/*.h5", "*.txt"]
_DESCRIPTION = """\
# ShopLens: a flat table

`POST /predict` takes one row as a JSON object with the columns that the model uses, and returns probability, decision
and model_version. `GET /version` returns the versions in service. An invalid request is answered with 400 and the name
of the field. Types and an example: `/openapi.json`.
"""


def build_package(model: Path, content: dict[str, Any], lock: Path, out: Path) -> str:
    """Build the package of a model in the empty folder `out`; return its version.

    `content` is that of metrics.json, `lock` is uv.lock.
    """
    shutil.copytree(model, out / "model")
    for name in CODE:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CODE_ROOT / name, target)
    dropped = {one["column"]: one["dropped"] for one in content["columns"] if one["dropped"]}
    dropped[content["target"]] = "it is the target"
    write_json(out / ABOUT, {"data": content["data"], "dropped": dropped})
    needs = _NEEDS + (_NETWORK_NEEDS if content["chosen"]["model"] == "neural_network" else ())
    (out / "requirements.txt").write_text(pinned_requirements(lock, needs), encoding="utf-8")
    files = {path.relative_to(out).as_posix(): file_digest(path) for path in sorted(out.rglob("*")) if path.is_file()}
    write_json(out / MANIFEST, {"files": files})
    return table_version(out)


def write_bento(package: Path, version: str, out: Path) -> None:
    """Build the Bento of a package, export it to a file in `out`, and unpack it to `out`/bento."""
    import bentoml

    bento = build_bento(package, version, "serving.table.service:ShopLensTable", NAME, _INCLUDED, _DESCRIPTION)
    bentoml.export_bento(bento.tag, str(out / f"{NAME}-{version}.bento"))
    shutil.copytree(bento.path, out / "bento")
    (out / "bento").chmod(0o755)  # BentoML's store is readable by its owner only, but results are shared
