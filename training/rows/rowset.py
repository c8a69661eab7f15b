"""Row sets: model inputs with labels or targets, stored as Parquet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.recent import RecentEvents
from shoplens.errors import ModelError
from training.rows.inputs import Inputs

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
