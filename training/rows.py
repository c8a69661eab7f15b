"""Model inputs, and rows: inputs with labels or targets. Training and serving build the same inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.fast import FAST_FEATURES, fast_features
from features.histories import Histories, UserLog
from features.items import ItemTables
from features.visits import VISIT_FEATURES, visit_features
from shoplens.errors import ModelError

if TYPE_CHECKING:
    from features.online import UserState


@dataclass(frozen=True)
class Inputs:
    """Inputs of a batch of rows.

    Attributes:
        names: Names of the tabular features, in column order.
        tabular: Unscaled features, NaN if missing, float32 (rows, features).
        history: The last N events of each row before `now`.
        now: The as-of time of each row (UTC), datetime64[us] (rows,).
        items: Statistics of the items, with a table at or before each row's time; None for task `purchase`.
    """

    names: tuple[str, ...]
    tabular: NDArray[np.float32]
    history: Histories
    now: NDArray[np.datetime64]
    items: ItemTables | None = None

    @property
    def item_tables(self) -> ItemTables:
        """The item tables of next-item inputs."""
        if self.items is None:
            raise ModelError("inputs: must have item tables for task next_item; they are missing")
        return self.items

    def __post_init__(self) -> None:
        shape = (len(self.now), len(self.names))
        if self.tabular.shape != shape or len(self.history) != len(self.now):
            raise ModelError(
                f"inputs: tabular must have the shape {shape}, and history a row per time; they have "
                f"{self.tabular.shape} and {len(self.history)} rows. Train the model again"
            )

    def __len__(self) -> int:
        return len(self.now)

    def take(self, idx: Any) -> "Inputs":
        """Return the rows selected by `idx`: integers, booleans or a slice."""
        return Inputs(self.names, self.tabular[idx], self.history.take(idx), self.now[idx], self.items)

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
        return Inputs(names, self.tabular[:, order], self.history, self.now, self.items)

    def with_history(self, history: Histories) -> "Inputs":
        """Return the rows with `history`, (rows,), in place of theirs, and the features that follow from it.

        Slow features stay, because they come from snapshots.
        """
        names = tuple(name for name in self.names if name in _COMPUTED)
        tabular = self.tabular.copy()
        tabular[:, [self.names.index(name) for name in names]] = _computed(history, self.now, names)
        return Inputs(self.names, tabular, history, self.now, self.items)

    @classmethod
    def join(
        cls,
        slow: pl.DataFrame,
        history: Histories,
        now: NDArray[np.datetime64],
        computed: tuple[str, ...],
        items: ItemTables | None = None,
    ) -> "Inputs":
        """Combine slow features (numeric columns, one line per row) with features `computed` from `history`."""
        tabular = np.empty((len(history), slow.width + len(computed)), dtype=np.float32)
        for k, name in enumerate(slow.columns):
            tabular[:, k] = slow[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        tabular[:, slow.width :] = _computed(history, now, computed)
        return cls((*slow.columns, *computed), tabular, history, now, items)

    @classmethod
    def from_state(
        cls, state: "UserState", now: np.datetime64, names: tuple[str, ...], items: ItemTables | None = None
    ) -> "Inputs":
        """Return the inputs of one user from the online store; a feature that it lacks is NaN."""
        moment = np.array([now], dtype="datetime64[us]")
        computed = tuple(name for name in names if name in _COMPUTED)
        found = dict(zip(computed, _computed(state.history, moment, computed)[0], strict=True))
        values = [found[name] if name in found else state.features.get(name) for name in names]
        tabular = np.array([[np.nan if value is None else value for value in values]], dtype=np.float32)
        return cls(tuple(names), tabular, state.history, moment, items)


_COMPUTED = frozenset((*FAST_FEATURES, *VISIT_FEATURES))


def _computed(history: Histories, now: NDArray[np.datetime64], names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return fast features and visit features of every row, (rows, features), in the order of `names`."""
    values = np.empty((len(history), len(names)), dtype=np.float32)
    place = {name: k for k, name in enumerate(names)}
    if not place.keys().isdisjoint(FAST_FEATURES):
        for rows, window in history.windows(int(history.lengths.max(initial=1))):
            for name, one in fast_features(window, now[rows]).items():
                if name in place:
                    values[rows, place[name]] = one
    if not place.keys().isdisjoint(VISIT_FEATURES):
        for name, one in visit_features(history, now).items():
            if name in place:
                values[:, place[name]] = one
    return values


Task = Literal["purchase", "next_item"]
TASKS: tuple[Task, ...] = ("purchase", "next_item")
_FEATURE = "feature:"
_ROWS, _EVENTS, _ITEMS = "rows.parquet", "events.parquet", "items.npz"


@dataclass(frozen=True)
class RowSet:
    """Rows of one task.

    Attributes:
        task: The task.
        user_id: The user of each row, (rows,); intervals resample users.
        inputs: The model inputs.
        label: For "purchase", 0 or 1, float32 (rows,); else None.
        targets: For "next_item", one int32 array of catalogue indexes per row; else None.
        log: The log that the histories were cut from, for training; None in rows that were loaded.
    """

    task: Task
    user_id: NDArray[np.str_]
    inputs: Inputs
    label: NDArray[np.float32] | None = None
    targets: list[NDArray[np.int32]] | None = None
    log: UserLog | None = None

    @property
    def full_log(self) -> UserLog:
        """All events of all users, for models that count in them; only events known before a row's time may be used."""
        if self.log is None:
            raise ModelError("rows: must have the log that they were cut from; rows that were loaded have none")
        return self.log

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
        return RowSet(self.task, self.user_id[idx], self.inputs.take(idx), label, targets, self.log)

    def save(self, folder: Path) -> None:
        """Write the rows, and the events of their histories, as Parquet; the same rows give the same bytes."""
        folder.mkdir(parents=True)
        history = self.inputs.history.compact()
        columns: dict[str, Any] = {
            "user_id": self.user_id,
            "time": self.inputs.now,
            "begin": history.begin,
            "end": history.end,
        }
        if self.label is not None:
            columns["label"] = self.label
        if self.targets is not None:
            columns["targets"] = pl.Series(self.targets, dtype=pl.List(pl.Int32))
        for k, name in enumerate(self.inputs.names):
            columns[_FEATURE + name] = self.inputs.tabular[:, k]
        pl.DataFrame(columns).write_parquet(folder / _ROWS)
        history.write(folder / _EVENTS)
        if self.inputs.items is not None:
            self.inputs.items.used(self.inputs.now).write(folder / _ITEMS)

    @classmethod
    def load(cls, folder: Path) -> "RowSet":
        """Load rows that `save` wrote.

        Raises:
            ModelError: a file is missing or unreadable.
        """
        try:
            frame = pl.read_parquet(folder / _ROWS)
            history = Histories.read(folder / _EVENTS, frame["begin"].to_numpy(), frame["end"].to_numpy())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ModelError(f"rows {folder}: cannot be read ({error}). Run the training stage") from error
        features = [name for name in frame.columns if name.startswith(_FEATURE)]
        inputs = Inputs(
            tuple(name.removeprefix(_FEATURE) for name in features),
            # Without features, Polars knows no number of rows.
            frame.select(features).to_numpy().astype(np.float32).reshape(frame.height, len(features)),
            history,
            frame["time"].to_numpy().astype("datetime64[us]"),
            ItemTables.read(folder / _ITEMS) if (folder / _ITEMS).exists() else None,
        )
        has = frame.columns
        return cls(
            "purchase" if "label" in has else "next_item",
            frame["user_id"].to_numpy().astype(str),
            inputs,
            frame["label"].to_numpy() if "label" in has else None,
            [np.asarray(t, dtype=np.int32) for t in frame["targets"].to_list()] if "targets" in has else None,
        )
