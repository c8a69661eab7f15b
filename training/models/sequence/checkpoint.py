"""Checkpoints: one file with everything that a killed training run needs to continue."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from shoplens.errors import ModelError
from shoplens.files import whole_file

Arrays = list[NDArray[Any]]


def _variables(model: keras.Model) -> list[Any]:
    """Return weights, random seeds, and the optimizer's moments, step count and averages, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]


def save_checkpoint(model: keras.Model, path: Path, about: dict[str, Any], best: Arrays) -> None:
    """Write the state of a compiled, built model atomically.

    Args:
        model: The model.
        path: The file.
        about: The progress of the training, JSON-serializable.
        best: The best weights so far; may be empty.
    """
    # Not numpy.savez, which needs all arrays at once: the tables of a large catalogue are copied one at a time.
    with whole_file(path) as work, zipfile.ZipFile(work, "w") as archive:

        def write(name: str, value: NDArray[Any]) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, value, allow_pickle=False)

        write("about", np.array(json.dumps(about)))
        for k, variable in enumerate(_variables(model)):
            write(f"v{k}", keras.ops.convert_to_numpy(variable))
        for k, value in enumerate(best):
            write(f"best{k}", value)


def load_checkpoint(model: keras.Model, path: Path) -> tuple[dict[str, Any], Arrays] | None:
    """Restore the state that `save_checkpoint` wrote and return its `about` and `best`; None if there is no such file.

    Raises:
        ModelError: the file is of another model.
    """
    if not path.exists():
        return None
    with np.load(path) as found:
        variables = _variables(model)
        stored = [found[f"v{k}"] for k in range(sum(name.startswith("v") for name in found.files))]
        if [one.shape for one in stored] != [tuple(one.shape) for one in variables]:
            raise ModelError(f"{path}: must be a checkpoint of this model; its arrays differ. Remove it to start again")
        for variable, value in zip(variables, stored, strict=True):
            variable.assign(value)
        best = [found[f"best{k}"] for k in range(sum(name.startswith("best") for name in found.files))]
        return json.loads(str(found["about"])), best
