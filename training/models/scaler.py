"""Tabular features for a network: signed logarithm, standardization fitted on training rows, missing flags."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from shoplens.errors import ModelError
from training.models.contract import FloatArray
from training.rows.inputs import Inputs

_CLIP = 8.0  # standard deviations: one absurd value must not drown the others


@dataclass(frozen=True)
class Scaler:
    """Mean and deviation of each feature on the training rows."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, inputs: Inputs) -> "Scaler":
        """Fit on training rows; a feature that never varies or never exists becomes 0."""
        values = _log(inputs.tabular)
        known = ~np.isnan(values)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
        spread = np.where(known, (values - mean) ** 2, 0).sum(axis=0, dtype=np.float64) / count
        deviation = np.sqrt(spread)
        deviation[deviation < 1e-6] = np.inf
        return cls(inputs.names, tuple(mean.tolist()), tuple(deviation.tolist()))

    def apply(self, inputs: Inputs) -> FloatArray:
        """Return (rows, 2 * features): standardized values, then flags of missing ones.

        Raises:
            ModelError: the inputs lack a feature that the model was trained on.
        """
        missing = [name for name in self.names if name not in inputs.names]
        if missing:
            raise ModelError(f"inputs: the model was trained on features that are not there: {', '.join(missing)}")
        order = [inputs.names.index(name) for name in self.names]
        values = _log(inputs.tabular[:, order])
        unknown = np.isnan(values)
        scaled = (values - np.array(self.mean)) / np.array(self.deviation)
        scaled = np.clip(np.where(unknown, 0, scaled), -_CLIP, _CLIP)
        return np.concatenate([scaled, unknown], axis=1).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        """Return plain values; an infinite deviation is written as null."""
        deviation = [None if np.isinf(value) else value for value in self.deviation]
        return {"names": list(self.names), "mean": list(self.mean), "deviation": deviation}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Scaler":
        """Read what `as_json` returned."""
        deviation = tuple(np.inf if value is None else float(value) for value in kept["deviation"])
        return cls(tuple(kept["names"]), tuple(kept["mean"]), deviation)


def _log(values: FloatArray) -> Any:
    """Return sign(x) * log(1 + |x|): counts and money are heavy-tailed."""
    return np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
