"""The training loop of all deep models: batches, progress, early stopping, learning curves.

Training is seeded and deterministic: on one machine, the same rows and recipe give the same weights.
"""

import sys
import time
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from shoplens.errors import ModelError
from shoplens.stage import console
from training.rows.rowset import RowSet

_LINES_AN_EPOCH = 10


def prepare_device(device: str) -> None:
    """Make TensorFlow deterministic and restrict it to `device`.

    Raises:
        ModelError: `device` is "gpu" and TensorFlow finds none.
    """
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise ModelError(
            "train.device: gpu requires a GPU, but TensorFlow finds none. Run `make env GPU=1` on a machine with an "
            "NVIDIA driver, or set train.device: cpu"
        )
    if device == "cpu" and gpus:
        tf.config.set_visible_devices([], "GPU")


class Progress(keras.callbacks.Callback):
    """Prints a line for every tenth of an epoch, or updates a progress bar on a terminal."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Record the start time."""
        self.epoch, self.began = epoch + 1, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Print the progress within the epoch."""
        steps, done = self.params["steps"], batch + 1
        every = 1 if sys.stderr.isatty() else max(1, steps // _LINES_AN_EPOCH)
        if done % every and done != steps:
            return
        seconds = time.monotonic() - self.began
        bar = "█" * (20 * done // steps) + "░" * (20 - 20 * done // steps)
        end = "\r" if sys.stderr.isatty() and done < steps else "\n"
        left = seconds / done * (steps - done)
        console.print(
            f"{self.name} epoch {self.epoch}/{self.params['epochs']} {bar} {done}/{steps} "
            f"loss {logs['loss']:.4f} {seconds:.0f} s, {left:.0f} s left",
            end=end,
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Print the training and validation metrics."""
        console.print(f"{self.name} epoch {self.epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in sorted(logs.items())))


class Curves(keras.callbacks.Callback):
    """Writes learning curves for DVC, without timestamps."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from dvclive import Live

        # dvcyaml or save_dvc_exp would rewrite dvc.yaml or make a commit in the middle of `dvc repro`.
        self.live = Live(dir=str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the metrics of one epoch."""
        for name, value in sorted(logs.items()):
            part, _, metric = name.rpartition("val_")
            where = "validation" if part or name.startswith("val_") else "train"
            self.live.log_metric(f"{where}/{metric or name}", float(value))
        self.live.next_step()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        self.live.end()


class Trainable(Protocol):
    """What the loop needs of a model; `training.models.deep.DeepModel` has it."""

    recipe: Any
    learner: Any

    @property
    def name(self) -> str:
        """Of the architecture."""

    def loss(self) -> Any:
        """Return what Keras minimizes."""

    def examples(self, rows: RowSet) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """Return (x, y) for `learner`."""


def learn(model: Trainable, train: RowSet, validation: RowSet, live: Path | None) -> None:
    """Fit `model.learner` until the validation loss stops improving; keep the best weights.

    Raises:
        ModelError: the loss did not stay finite.
    """
    loop = model.recipe.loop
    optimizer = keras.optimizers.get(
        {"class_name": loop.optimizer, "config": {"learning_rate": loop.learning_rate, "clipnorm": 1.0}}
    )
    metrics = [keras.metrics.AUC(name="auc")] if model.recipe.task == "purchase" else []
    model.learner.compile(optimizer=optimizer, loss=model.loss(), metrics=metrics, jit_compile=False)
    callbacks: list[Any] = [
        keras.callbacks.EarlyStopping("val_loss", patience=loop.patience, restore_best_weights=True, mode="min"),
        Progress(f"{model.recipe.task} {model.name}"),
    ]
    if live is not None:
        callbacks.append(Curves(live))
    x, y = model.examples(train)
    order = np.random.default_rng(model.recipe.seed).permutation(len(train))
    model.learner.fit(
        {name: values[order] for name, values in x.items()},
        y[order],
        batch_size=loop.batch_size,
        epochs=loop.epochs,
        validation_data=model.examples(validation),
        callbacks=callbacks,
        verbose=0,
        shuffle=True,
    )
    if not all(np.isfinite(values).all() for values in model.learner.get_weights()):
        raise ModelError(
            f"train.{model.recipe.task}.loop.learning_rate: the loss must stay finite; it did not with "
            f"{loop.learning_rate:g}. Lower the learning rate"
        )
