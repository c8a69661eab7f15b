"""Model inputs: the same object is built from validated events and from the online store."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.fast import FAST_FEATURES, fast_features
from features.recent import RecentEvents
from shoplens.errors import ModelError

if TYPE_CHECKING:
    from features.online import UserState


@dataclass(frozen=True)
class Inputs:
    """Inputs of a batch of rows.

    Attributes:
        names: Names of the tabular features, in column order.
        tabular: Unscaled features, NaN if missing, float32 (rows, features).
        recent: The last N events of each row before `now`.
        now: The as-of time of each row (UTC), datetime64[us] (rows,).
    """

    names: tuple[str, ...]
    tabular: NDArray[np.float32]
    recent: RecentEvents
    now: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.tabular)

    def take(self, idx: Any) -> "Inputs":
        """Return the rows selected by `idx`: integers, booleans or a slice."""
        return Inputs(self.names, self.tabular[idx], self.recent.take(idx), self.now[idx])

    def select(self, names: tuple[str, ...]) -> "Inputs":
        """Return the inputs with the tabular features `names`, in this order.

        Raises:
            ModelError: a feature is missing.
        """
        if names == self.names:
            return self
        missing = [name for name in names if name not in self.names]
        if missing:
            raise ModelError(
                f"inputs: must have all features that the model was trained on; missing: {', '.join(missing)}. "
                f"Train the model again"
            )
        order = [self.names.index(name) for name in names]
        return Inputs(names, self.tabular[:, order], self.recent, self.now)

    def resize(self, n: int) -> "Inputs":
        """Return the inputs with histories cut, or padded on the left, to `n` events."""
        return self if n == self.recent.n else Inputs(self.names, self.tabular, self.recent.resize(n), self.now)

    @classmethod
    def join(cls, slow: pl.DataFrame, recent: RecentEvents, now: NDArray[np.datetime64]) -> "Inputs":
        """Combine slow features (numeric columns, one line per row) with the fast features computed from `recent`."""
        fast = fast_features(recent, now)
        columns = [slow[name].cast(pl.Float32).fill_null(float("nan")).to_numpy() for name in slow.columns]
        columns += [fast[name] for name in FAST_FEATURES]
        return cls((*slow.columns, *FAST_FEATURES), np.stack(columns, axis=1), recent, now)

    @classmethod
    def from_state(cls, state: "UserState", now: np.datetime64, names: tuple[str, ...]) -> "Inputs":
        """Return the inputs of one user from the online store; a feature that it lacks is NaN."""
        moment = np.array([now], dtype="datetime64[us]")
        fast = fast_features(state.recent, moment)
        values = [fast[name][0] if name in fast else state.features.get(name) for name in names]
        tabular = np.array([[np.nan if value is None else value for value in values]], dtype=np.float32)
        return cls(tuple(names), tabular, state.recent, moment)
