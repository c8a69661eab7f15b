"""`make demo GPU=1`: which device trains is a parameter, so that DVC knows."""

import os
import re
from pathlib import Path

from shoplens.files import whole_file
from shoplens.settings import Settings

_DEVICE = re.compile(r"^(\s*device:\s*)\w+", re.MULTILINE)


def set_device(params: Path, device: str) -> bool:
    """Set `train.device` in params.yaml, comments kept; return whether it was another."""
    text = params.read_text(encoding="utf-8")
    changed = _DEVICE.sub(rf"\g<1>{device}", text, count=1)
    if changed != text:
        with whole_file(params) as work:
            work.write_text(changed, encoding="utf-8")
    return changed != text


def wants_gpu() -> bool:
    """Return whether `make` was called with GPU=1; GPU=0 is the same as no GPU."""
    return os.environ.get("SHOPLENS_GPU", "").strip() not in ("", "0")


def choose_device(settings: Settings) -> None:
    """With GPU=1 train on the GPU; without, return to the CPU if an earlier GPU=1, and not a person, chose the GPU.

    Only before a run begins: all stages of a run must read the same parameters.
    """
    params, mark = settings.root / "params.yaml", settings.var_dir / "run/device_set_by_demo"
    if wants_gpu():
        if set_device(params, "gpu"):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    elif mark.exists():
        set_device(params, "cpu")
        mark.unlink()
