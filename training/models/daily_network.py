"""The daily network: a GRU reads a person's days and learns at every one of them when the next purchase comes.

A row asks once, at its time; the same history can be asked at each earlier day, which gives seven times as many
examples as weekly rows, none of them computed anew. The network predicts the hazard of each interval of waiting days,
like `HazardNetwork`, from days alone: it sees orders of visits that no summary keeps. Keras trains, reproducibly from
the seed; NumPy predicts: the GRU of Cho et al. (EMNLP 2014) with the reset gate applied after the multiplication.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from training.models.activations import sigmoid, silu
from training.models.contract import FloatArray, Model, Recipe
from training.models.days import CHANNELS, DAYS, DayGrid, days_to_wait, interval_edges
from training.models.waits import days_to_purchase
from training.rows import Inputs, RowSet

_FILE = "days.npz"
_LAYERS = ("in", "gru", "hidden", "out")
_WIDTH = 64
_DROPOUT = 0.2
_USERS = 64  # in a batch
_PASSES = 4 / 3  # over all users, per epoch of `loop`: a pass has fewer batches than one of the hazard network
_MOST = 8  # positions learned from, in rows of `max_train_rows`
_ACTIVE = 90  # days without any event, after which a day is not learned from: rows ask about active people
_LOW, _HIGH, _SMALL = -12.0, 4.0, 1e-7
_DECAY = 0.01  # of the weights, by AdamW
_BATCH = 512  # rows predicted at once
_DAY = np.timedelta64(1, "D")


def horizon_days(train: RowSet) -> int:
    """Return the horizon in whole days: the longest wait of a buyer, rounded up; 0 if the log knows none."""
    wait = days_to_purchase(train.full_log, train.user_id, train.inputs.now)
    return math.ceil(float(wait[(train.labels > 0) & np.isfinite(wait)].max(initial=0.0)))


class DailyNetwork(Model):
    """A GRU over days."""

    name = "daily_network"
    tasks = frozenset({"purchase"})

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Learn at every day of the users' histories before the end of training; see `horizon_days`."""
        horizon = max(horizon_days(train), 1)
        edges = interval_edges(horizon)
        self._within = int(np.searchsorted(edges, horizon))
        first, last = train.inputs.now.min(), train.inputs.now.max()
        # The end of the last label window, rounded up to days, but never within the time that validation asks about.
        until = min(last + horizon * _DAY, validation.inputs.now.min())
        days = min(DAYS, int((last - first) / _DAY) + 4 * 7) + horizon
        places = train.full_log.users
        users, lengths = places["user_id"].to_numpy().astype(str), (places["end"] - places["begin"]).to_numpy()
        most = max(1, _MOST * self.recipe.loop.max_train_rows // days)
        if len(users) > most:
            users = np.sort(np.random.default_rng(self.recipe.seed).choice(users, most, replace=False))
        times = np.full(len(users), until)
        grid = DayGrid.read(train.full_log.as_of(users, times, int(lengths.max(initial=1))), times, days)
        asked = np.zeros(days, dtype=bool)  # a day is asked about at its end
        asked[max(0, days - horizon - 1 - int((last - first) / _DAY)) : days - horizon] = True
        grid = grid.take(np.flatnonzero((grid.start < days - horizon) & (grid.lines.sum(axis=1) > 0)))
        self._weights = _learn(self.recipe, grid, asked, edges, labels_only=horizon)

    def logits(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the logit of the probability, (rows,)."""
        parts = []
        for begin in range(0, max(len(inputs), 1), _BATCH):
            rows = inputs.take(slice(begin, begin + _BATCH))
            parts.append(self._logits(DayGrid.read(rows.history, rows.now)))
        return np.concatenate(parts)

    def _logits(self, grid: DayGrid) -> NDArray[np.float64]:
        weights, days = self._weights, grid.lines.shape[1]
        first = min(int(grid.start.min(initial=days)), days - 1)  # no row has a day on record before it
        x = grid.channels()[:, first:]
        inner = silu(x @ weights["in/kernel"] + weights["in/bias"])  # (rows, days, width)
        given = inner @ weights["gru/kernel"] + weights["gru/bias"][0]
        state = np.zeros((len(grid), _WIDTH), dtype=np.float32)
        for k in range(x.shape[1]):
            own = state @ weights["gru/recurrent"] + weights["gru/bias"][1]
            gates = sigmoid(given[:, k, : 2 * _WIDTH] + own[:, : 2 * _WIDTH])
            update, reset = gates[:, :_WIDTH], gates[:, _WIDTH:]
            new = np.tanh(given[:, k, 2 * _WIDTH :] + reset * own[:, 2 * _WIDTH :])
            there = (grid.start <= first + k)[:, None]  # the state starts at the first day on record
            state = np.where(there, update * state + (1 - update) * new, state).astype(np.float32)
        both = np.concatenate([state, inner[:, -1]], axis=1)
        hidden = silu(both @ weights["hidden/kernel"] + weights["hidden/bias"])
        out = hidden @ weights["out/kernel"] + weights["out/bias"]
        hazard = np.exp(np.clip(out[:, : self._within].astype(np.float64), _LOW, _HIGH)).sum(axis=-1)
        return np.asarray(np.log(np.expm1(hazard)), dtype=np.float64)

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return np.asarray(expit(self.logits(inputs)), dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the weights."""
        weights: dict[str, Any] = dict(self._weights)
        np.savez_compressed(folder / _FILE, **weights)
        return {"within": self._within}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the weights."""
        self._within = int(kept["within"])
        with np.load(folder / _FILE) as file:
            self._weights = {name: file[name] for name in file.files}

    def parameter_count(self) -> int:
        """Return the number of weights."""
        return sum(one.size for one in self._weights.values())


def _network(intervals: int, seed: int) -> Any:
    """Return the untrained network: from the channels of days to the log hazard of each interval, for every day."""
    import keras
    from keras import layers, ops

    given = keras.Input((None, CHANNELS))
    on_record = ops.any(ops.not_equal(given, 0.0), axis=-1)  # the state starts at the first day on record
    inner = layers.Dense(_WIDTH, activation="silu", name="in")(given)
    state = layers.GRU(_WIDTH, return_sequences=True, name="gru")(inner, mask=on_record)
    both = layers.Dropout(_DROPOUT, seed=seed)(layers.Concatenate()([state, inner]))
    hidden = layers.Dense(_WIDTH, activation="silu", name="hidden")(both)
    hidden = layers.Dropout(_DROPOUT, seed=seed + 1)(hidden)
    out = layers.Dense(intervals, bias_initializer=keras.initializers.Constant(-2.0), name="out")(hidden)
    return keras.Model(given, ops.clip(out, _LOW, _HIGH))


def _learn(
    recipe: Recipe, grid: DayGrid, asked: NDArray[np.bool_], edges: NDArray[np.int64], labels_only: int
) -> dict[str, FloatArray]:
    """Train the network and return its weights by layer, averaged over the last steps.

    Args:
        recipe: The parameters.
        grid: The days of each user, up to the end of the last label window.
        asked: The days at whose end the network is asked, (days,).
        edges: Edges of the intervals of waiting days.
        labels_only: Days at the end of the grid that are waited for and not read.

    Raises:
        ModelError: the loss did not stay finite.
    """
    import keras
    from keras import ops

    from training.loop import Progress, averaged_adamw, require_finite

    keras.utils.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    days = grid.lines.shape[1]
    read = days - labels_only
    epochs = math.ceil(_PASSES * recipe.loop.epochs)

    class Batches(keras.utils.PyDataset):
        """Batches of users in a new order each epoch; their days are described when they are needed."""

        def __init__(self) -> None:
            super().__init__()
            self.random = np.random.default_rng(recipe.seed)
            self.on_epoch_end()

        def __len__(self) -> int:
            return math.ceil(len(grid) / _USERS)

        def __getitem__(self, k: int) -> Any:
            rows = grid.take(self.order[k * _USERS : (k + 1) * _USERS])
            return rows.channels()[:, :read], _targets(rows, asked, edges)[:, :read]

        def on_epoch_end(self) -> None:
            self.order = self.random.permutation(len(grid))

    def life_table_loss(target: Any, log_hazard: Any) -> Any:
        """Return the -log likelihood, (batch, days), whose mean is that of the days that are asked about."""
        risk, bought = target[..., 0, :], target[..., 1, :]
        hazard = ops.exp(log_hazard)
        likelihood = bought * ops.log(-ops.expm1(-hazard) + _SMALL) - (risk - bought) * hazard
        asked_about = risk[..., 0]  # every day that is asked about is at risk in the first interval
        return -ops.sum(likelihood, axis=-1) / (ops.mean(asked_about) + _SMALL)

    network = _network(len(edges) - 1, recipe.seed)
    batches = Batches()
    steps = len(batches) * epochs
    optimizer = averaged_adamw(recipe.loop, steps, _DECAY)
    network.compile(optimizer=optimizer, loss=life_table_loss, jit_compile=False)
    network.fit(batches, epochs=epochs, callbacks=[Progress(f"{recipe.task} days")], verbose=0)
    weights = {}
    for name in _LAYERS:
        parts = ("kernel", "recurrent", "bias") if name == "gru" else ("kernel", "bias")
        for part, value in zip(parts, network.get_layer(name).get_weights(), strict=True):
            weights[f"{name}/{part}"] = np.asarray(value, dtype=np.float32)
    require_finite(weights.values(), recipe.task, recipe.loop.learning_rate)
    return weights


def _targets(grid: DayGrid, asked: NDArray[np.bool_], edges: NDArray[np.int64]) -> FloatArray:
    """Return who is at risk and who buys in each interval after each day, (rows, days, 2, intervals)."""
    rows, days = grid.lines.shape
    wait = np.full((rows, days), 10 * days)
    wait[:, :-1] = days_to_wait(grid.came)[:, 1:]  # asked at the end of a day: the next one is the first to wait for
    left = days - 1 - np.arange(days)  # days of the grid after each day
    quiet = np.arange(days) - np.maximum.accumulate(np.where(grid.lines > 0, np.arange(days), -days), axis=1)
    used = asked & grid.on_record & (quiet < _ACTIVE)
    risk = used[..., None] & (wait[..., None] >= edges[:-1]) & (left[:, None] >= edges[1:])
    return np.stack([risk, risk & (wait[..., None] < edges[1:])], axis=2).astype(np.float32)
