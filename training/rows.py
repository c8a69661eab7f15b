"""Model inputs, and rows: inputs with labels or targets. Training and serving build the same inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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


Task = Literal["purchase", "next_item"]
TASKS: tuple[Task, ...] = ("purchase", "next_item")
_FEATURE = "feature:"
_RECENT = "recent:"


@dataclass(frozen=True)
class RowSet:
    """Rows of one task.

    Attributes:
        task: The task.
        user_id: The user of each row, (rows,); intervals resample users.
        inputs: The model inputs.
        label: For "purchase", 0 or 1, float32 (rows,); else None.
        targets: For "next_item", one int32 array of catalogue indexes per row; else None.
    """

    task: Task
    user_id: NDArray[np.str_]
    inputs: Inputs
    label: NDArray[np.float32] | None = None
    targets: list[NDArray[np.int32]] | None = None

    def __len__(self) -> int:
        return len(self.user_id)

    @property
    def labels(self) -> NDArray[np.float32]:
        """The labels of a purchase row set."""
        if self.label is None:
            raise ModelError(f"rows: labels exist for task purchase only; these rows are for {self.task}")
        return self.label

    @property
    def target_sets(self) -> list[NDArray[np.int32]]:
        """The targets of a next-item row set."""
        if self.targets is None:
            raise ModelError(f"rows: targets exist for task next_item only; these rows are for {self.task}")
        return self.targets

    def take(self, idx: NDArray[Any]) -> "RowSet":
        """Return the rows at the given positions."""
        label = None if self.label is None else self.label[idx]
        targets = None if self.targets is None else [self.targets[k] for k in np.arange(len(self))[idx]]
        return RowSet(self.task, self.user_id[idx], self.inputs.take(idx), label, targets)

    def save(self, path: Path) -> None:
        """Write the rows as Parquet; the same rows give the same bytes."""
        recent = self.inputs.recent
        columns: dict[str, Any] = {"user_id": self.user_id, "time": self.inputs.now}
        if self.label is not None:
            columns["label"] = self.label
        if self.targets is not None:
            columns["targets"] = pl.Series(self.targets, dtype=pl.List(pl.Int32))
        for k, name in enumerate(self.inputs.names):
            columns[_FEATURE + name] = self.inputs.tabular[:, k]
        for name in RecentEvents.__dataclass_fields__:
            values = getattr(recent, name)
            columns[_RECENT + name] = values.astype("int64") if name == "event_time" else values
        pl.DataFrame(columns).write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> "RowSet":
        """Load rows from a Parquet file.

        Raises:
            ModelError: the file is missing or unreadable.
        """
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ModelError(f"rows {path}: cannot be read ({error}). Run the training stage") from error
        recent = {}
        for name in RecentEvents.__dataclass_fields__:
            values = frame[_RECENT + name].to_numpy()
            recent[name] = values.astype("datetime64[us]") if name == "event_time" else values
        features = [name for name in frame.columns if name.startswith(_FEATURE)]
        inputs = Inputs(
            tuple(name.removeprefix(_FEATURE) for name in features),
            frame.select(features).to_numpy().astype(np.float32),
            RecentEvents(**recent),
            frame["time"].to_numpy().astype("datetime64[us]"),
        )
        has = frame.columns
        return cls(
            "purchase" if "label" in has else "next_item",
            frame["user_id"].to_numpy().astype(str),
            inputs,
            frame["label"].to_numpy() if "label" in has else None,
            [np.asarray(t, dtype=np.int32) for t in frame["targets"].to_list()] if "targets" in has else None,
        )
