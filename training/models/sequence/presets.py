"""The encoders by name, and presets of their size, from a laptop to a GPU."""

import importlib

from shoplens.errors import ModelError
from training.models.sequence.encoder import Encoder, Size

ENCODERS = {
    "sasrec": "training.models.sequence.sasrec:SASRec",
    "esasrec": "training.models.sequence.esasrec:ESASRec",
    "hstu": "training.models.sequence.hstu:HSTU",
    "gru": "training.models.sequence.recurrent:Gru",
    "lstm": "training.models.sequence.recurrent:Lstm",
    "nextitnet": "training.models.sequence.nextitnet:NextItNet",
}
PRESETS = {
    "tiny": Size(width=32, blocks=1, heads=1),
    "small": Size(width=64, blocks=2, heads=2),
    "base": Size(width=128, blocks=4, heads=4, dropout=0.4),
    "large": Size(width=256, blocks=8, heads=8, dropout=0.4),
}


def encoder_class(name: str) -> type[Encoder]:
    """Import and return the class of an encoder.

    Raises:
        ModelError: no encoder has this name.
    """
    if name not in ENCODERS:
        raise ModelError(f"model: must be one of {', '.join(ENCODERS)}; received {name!r}")
    module, _, attribute = ENCODERS[name].partition(":")
    found: type[Encoder] = getattr(importlib.import_module(module), attribute)
    return found


def preset(name: str) -> Size:
    """Return a preset.

    Raises:
        ModelError: no preset has this name.
    """
    if name not in PRESETS:
        raise ModelError(f"preset: must be one of {', '.join(PRESETS)}; received {name!r}")
    return PRESETS[name]
