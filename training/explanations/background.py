"""Background rows: they represent a mean user, and replace the features that count as unknown."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from shoplens.errors import ModelError
from training.models.contract import FloatArray
from training.rows import Inputs

_ROWS = 16  # with more, the effects change little and an answer takes longer
_FILE = "background.npz"


def background_of(inputs: Inputs, seed: int) -> FloatArray:
    """Return the tabular features of randomly chosen rows, (rows, features)."""
    count = min(_ROWS, len(inputs))
    return inputs.tabular[np.sort(np.random.default_rng(seed).choice(len(inputs), count, replace=False))]


def write_background(rows: FloatArray, folder: Path) -> None:
    """Write background rows to a folder; the same rows give the same bytes."""
    np.savez_compressed(folder / _FILE, rows=rows)


def read_background(folder: Path) -> FloatArray:
    """Read what `write_background` wrote.

    Raises:
        ModelError: the file is missing or unreadable.
    """
    try:
        with np.load(folder / _FILE) as kept:
            return np.asarray(kept["rows"], dtype=np.float32)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{folder / _FILE}: cannot be read ({error}). Run `dvc repro package`") from error
