"""Environment variables that keep all tools inside the project folder, without telemetry, and on one PATH.

`make env` configures the interpreter of `.venv` to call `apply` at startup, so that every entry point (`make`, an
activated `.venv`, `uv run`, `.venv/bin/dvc`, Airflow) gives `dvc`, `bentoml` and other tools the same environment. It
uses only the standard library and must be fast, because it runs at every start. Variables that are set are unchanged.
"""

import os
import sys
from pathlib import Path

# Airflow 3.3, Feast 0.67, Keras and TensorFlow have no telemetry; tests/environment checks the installed sources.
TELEMETRY_OFF = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "ITERATIVE_DO_NOT_TRACK": "1",
}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "KERAS_BACKEND": "tensorflow"}
_HOMES = {
    "BENTOML_HOME": "bentoml",
    "DVC_GLOBAL_CONFIG_DIR": "dvc/global",
    "DVC_SITE_CACHE_DIR": "dvc/site",
    "DVC_SYSTEM_CONFIG_DIR": "dvc/system",
    "KERAS_HOME": "keras",
    "MPLCONFIGDIR": "matplotlib",
    "SKB_DATA_DIRECTORY": "skrub",
}
_IDENTITY = {"NAME": "ShopLens", "EMAIL": "shoplens@localhost"}


def tool_variables(root: Path) -> dict[str, str]:
    """Return the tools' variables for the project at `root`."""
    var = root / os.environ.get("SHOPLENS_VAR", "var")
    return {**TELEMETRY_OFF, **QUIET, **{name: str(var / folder) for name, folder in _HOMES.items()}}


def _git_identity_missing(root: Path) -> bool:
    home = Path(os.environ.get("HOME", "/nonexistent"))
    places = (home / ".gitconfig", home / ".config/git/config", root / ".git/config")
    return not any("email" in place.read_text(errors="replace") for place in places if place.is_file())


def apply(root: Path | None = None) -> None:
    """Set the variables for the project at `root`, and put this environment's `bin` first on PATH.

    The default is the folder that contains this `.venv` (container images keep the environment elsewhere).
    """
    root = root or Path(sys.prefix).parent
    if not (root / "params.yaml").is_file():
        return
    for name, value in tool_variables(root).items():
        os.environ.setdefault(name, value)
    bin_folder = str(Path(sys.prefix) / "bin")
    path = os.environ.get("PATH", "").split(os.pathsep)
    if path[0] != bin_folder:
        os.environ["PATH"] = os.pathsep.join([bin_folder, *(part for part in path if part != bin_folder)])
    if _git_identity_missing(root):  # `dvc exp run` commits
        for role in ("AUTHOR", "COMMITTER"):
            for field, value in _IDENTITY.items():
                os.environ.setdefault(f"GIT_{role}_{field}", value)
