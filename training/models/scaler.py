"""Standardized features, the input of every network that reads them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.models.contract import FloatArray
from training.rows import Inputs

_CLIP = 8.0  # standard deviations; limits the influence of a single extreme value


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of each feature, fitted on the training rows."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, inputs: Inputs) -> "Scaler":
        """Fit on training rows; a feature that is constant or always missing is scaled to 0."""
        values = _log(inputs.tabular)
        known = ~np.isnan(values)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
        spread = np.where(known, (values - mean) ** 2, 0).sum(axis=0, dtype=np.float64) / count
        deviation = np.sqrt(spread)
        deviation[deviation < 1e-6] = np.inf
        return cls(inputs.names, tuple(mean.tolist()), tuple(deviation.tolist()))

    def apply(self, inputs: Inputs) -> FloatArray:
        """Return the standardized values followed by missing flags, (rows, 2 * features).

        Raises:
            ModelError: the inputs lack a feature that the model was trained on.
        """
        values = _log(inputs.select(self.names).tabular)
        unknown = np.isnan(values)
        scaled = (values - np.array(self.mean)) / np.array(self.deviation)
        scaled = np.clip(np.where(unknown, 0, scaled), -_CLIP, _CLIP)
        return np.concatenate([scaled, unknown], axis=1).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable values; an infinite deviation becomes null."""
        deviation = [None if np.isinf(value) else value for value in self.deviation]
        return {"names": list(self.names), "mean": list(self.mean), "deviation": deviation}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Scaler":
        """Restore a scaler from the result of `as_json`."""
        deviation = tuple(np.inf if value is None else float(value) for value in kept["deviation"])
        return cls(tuple(kept["names"]), tuple(kept["mean"]), deviation)


def _log(values: FloatArray) -> Any:
    """Return sign(x) * log(1 + |x|), because counts and money are heavy-tailed."""
    return np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
