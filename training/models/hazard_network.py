"""The purchase network: how likely a purchase becomes, interval by interval, from all features.

Several small networks, trained side by side from different initial weights, read the standardized features and give
the cumulative hazard H of each interval of the waiting time; P(purchase within the horizon) = 1 - exp(-sum of H). They
learn from the life table of `training.models.waits`. Keras trains, reproducibly from the seed; NumPy predicts, so that
a service needs no TensorFlow.
"""

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.models.activations import silu
from training.models.contract import FloatArray, Model, Recipe, Report
from training.models.scaler import Scaler
from training.models.space import Among, Between
from training.models.waits import LifeTable, days_to_purchase
from training.rows import Inputs, RowSet

_FILE = "hazards.npz"
_LOW, _HIGH = -12.0, 4.0  # of log H, so that neither its exponential nor its logarithm overflows
_SMALL = 1e-7
_DECAY = 0.05  # of the weights, by AdamW; on validation rows better than .01
_BATCH = 4096  # rows predicted at once, to bound memory
_DAY = np.timedelta64(1, "D")


class HazardNetwork(Model):
    """Networks that predict the hazard of a purchase."""

    name = "hazard_network"
    tasks = frozenset({"purchase"})
    reads_history = False
    scaling: ClassVar[Any] = Scaler  # how features are standardized
    space: ClassVar = {
        "network.width": Among((32, 64, 96, 128, 192)),
        "network.blocks": Between(1, 3),
        "network.dropout": Between(0.0, 0.5),
        "loop.epochs": Between(4, 24),
        "loop.batch_size": Among((256, 512, 1024, 2048)),
        "loop.learning_rate": Between(0.0005, 0.01, log=True),
    }

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Train on the training rows; validation rows give the learning curve only."""
        self._scaler = self.scaling.fit(train.inputs)
        scaled = self._scaler.apply(train.inputs)
        self._used = np.flatnonzero(scaled.std(axis=0) > 0)  # most features are never missing
        wait = days_to_purchase(train.full_log, train.user_id, train.inputs.now)
        bought = train.labels > 0
        horizon = wait[bought & np.isfinite(wait)].max(initial=0.0)
        left = (train.inputs.now.max() - train.inputs.now) / _DAY + horizon
        table = LifeTable.of_labels(train.labels, wait, left)
        held_out = self._scaler.apply(validation.inputs)[:, self._used], validation.labels
        self._within = table.within
        self._layers = _learn(self.recipe, scaled[:, self._used], table, train.labels, held_out, live, self.report)

    def logits(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the logit of the probability, averaged over the networks, (rows,)."""
        x = self._scaler.apply(inputs)[:, self._used]
        return np.concatenate([self._logits(x[k : k + _BATCH]) for k in range(0, max(len(x), 1), _BATCH)])

    def _logits(self, x: FloatArray) -> NDArray[np.float64]:
        values = x[None]  # (networks, rows, width)
        for k, (kernel, bias) in enumerate(self._layers):
            values = np.matmul(values, kernel) + bias[:, None]
            if k < len(self._layers) - 1:
                values = silu(values)
        hazard = np.exp(np.clip(values[..., : self._within].astype(np.float64), _LOW, _HIGH)).sum(axis=-1)
        return np.asarray(np.log(np.expm1(hazard)).mean(axis=0), dtype=np.float64)  # logit(1 - exp(-H))

    def predict(self, inputs: Inputs) -> FloatArray:
        """See `Model.predict`."""
        return np.asarray(1 / (1 + np.exp(-self.logits(inputs))), dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the weights."""
        weights: dict[str, Any] = {
            f"{part}{k}": one for k, pair in enumerate(self._layers) for part, one in zip("wb", pair, strict=True)
        }
        np.savez_compressed(folder / _FILE, used=self._used, **weights)
        return {"scaler": self._scaler.as_json(), "within": self._within, "layers": len(self._layers)}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the weights."""
        self._scaler, self._within = self.scaling.from_json(kept["scaler"]), int(kept["within"])
        with np.load(folder / _FILE) as file:
            self._used = file["used"]
            self._layers = [(file[f"w{k}"], file[f"b{k}"]) for k in range(int(kept["layers"]))]

    def parameter_count(self) -> int:
        """Return the number of weights of all networks."""
        return sum(one.size for pair in self._layers for one in pair)


def _network(recipe: Recipe, features: int, table: LifeTable) -> Any:
    """Return the untrained networks as one: from features, (batch, features), to log hazards, (batch, networks, n).

    The last bias starts at the hazards of all rows.
    """
    import keras
    from keras import layers, ops

    (size, _), members = recipe.sequence, recipe.members

    def dense(values: Any, inner: int, outer: int, equation: str, bias: Any = "zeros") -> Any:
        start = keras.initializers.RandomNormal(stddev=float(np.sqrt(2 / inner)))
        shape = (members, outer)
        return layers.EinsumDense(equation, shape, bias_axes="kw", kernel_initializer=start, bias_initializer=bias)(
            values
        )

    def start_at_rates(shape: Any, dtype: Any = None) -> Any:
        return ops.broadcast_to(ops.convert_to_tensor(np.log(table.rates), dtype=dtype), shape)

    given = keras.Input((features,))
    values, inner, equation = given, features, "bi,kiw->bkw"
    for block in range(size.blocks):
        values = layers.Activation("silu")(dense(values, inner, size.width, equation))
        values = layers.Dropout(size.dropout, seed=recipe.seed + block)(values)
        inner, equation = size.width, "bki,kiw->bkw"
    return keras.Model(
        given, ops.clip(dense(values, inner, table.risk.shape[1], equation, start_at_rates), _LOW, _HIGH)
    )


def _learn(
    recipe: Recipe,
    features: FloatArray,
    table: LifeTable,
    label: FloatArray,
    held_out: tuple[FloatArray, FloatArray],
    live: Path | None,
    report: Report | None,
) -> list[tuple[FloatArray, FloatArray]]:
    """Train the networks and return kernel and bias of each layer, averaged over the last steps.

    Args:
        recipe: The parameters.
        features: Standardized features of the training rows, (rows, features).
        table: Their life table.
        label: Their labels, (rows,).
        held_out: Features and labels of the validation rows.
        live: Folder for the learning curve.
        report: Called after each epoch with minus the log loss of the validation rows.

    Raises:
        ModelError: the loss did not stay finite.
    """
    import keras
    from keras import layers, ops

    from training.loop import Curves, Progress, Reports, averaged_adamw, require_finite

    keras.utils.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    loop, within, intervals = recipe.loop, table.within, table.risk.shape[1]

    def probability(log_hazard: Any) -> Any:
        """Return P(purchase within the horizon), (batch, networks)."""
        return 1 - ops.exp(-ops.sum(ops.exp(log_hazard[..., :within]), axis=-1))

    def life_table_loss(target: Any, log_hazard: Any) -> Any:
        """Return -log likelihood, summed over the intervals and averaged over the networks, (batch,)."""
        risk, bought = (ops.expand_dims(target[:, k], 1) for k in (0, 1))
        hazard = ops.exp(log_hazard)
        likelihood = bought * ops.log(-ops.expm1(-hazard) + _SMALL) - (risk - bought) * hazard
        return -ops.mean(ops.sum(likelihood, axis=-1), axis=-1)

    def log_loss(target: Any, log_hazard: Any) -> Any:
        """Return the log loss of the label: what the learning curve shows."""
        happened = ops.max(target[:, 1, :within], axis=-1)
        chance = ops.clip(ops.mean(probability(log_hazard), axis=-1), _SMALL, 1 - _SMALL)
        return -(happened * ops.log(chance) + (1 - happened) * ops.log(1 - chance))

    network = _network(recipe, features.shape[1], table)
    optimizer = averaged_adamw(loop, math.ceil(len(features) / loop.batch_size) * loop.epochs, _DECAY)
    network.compile(optimizer=optimizer, loss=life_table_loss, metrics=[log_loss], jit_compile=False)
    held_out_table = np.zeros((len(held_out[1]), 2, intervals), dtype=np.float32)
    held_out_table[:, 1, 0] = held_out[1]  # only the label: later purchases lie in the test weeks
    network.fit(
        features,
        np.stack([table.risk, table.bought], axis=1),
        batch_size=loop.batch_size,
        epochs=loop.epochs,
        validation_data=(held_out[0], held_out_table),
        callbacks=[
            Progress(f"{recipe.task} hazards"),
            *([] if live is None else [Curves(live, loss="log_loss")]),
            *([] if report is None else [Reports(report, lambda logs: -logs["val_log_loss"])]),
        ],
        verbose=0,
        shuffle=True,
    )
    found = [layer.get_weights() for layer in network.layers if isinstance(layer, layers.EinsumDense)]
    require_finite((one for pair in found for one in pair), recipe.task, loop.learning_rate)
    return [(np.asarray(kernel, np.float32), np.asarray(bias, np.float32)) for kernel, bias in found]
