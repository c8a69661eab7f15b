"""What training needs around a deep model: the device, progress, learning curves."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from shoplens.errors import DivergedError, ModelError
from shoplens.memory import keep_freed_memory
from shoplens.params import LoopParams
from shoplens.stage import console

_LINES_AN_EPOCH = 10
_WARM_UP = 0.05  # of all steps
_AVERAGE = 0.995  # momentum of the moving average of the weights


def prepare_device(device: str) -> None:
    """Make TensorFlow deterministic, restrict it to `device`, and let it use its memory again.

    Raises:
        ModelError: `device` is "gpu" and TensorFlow finds none.
    """
    import tensorflow as tf

    keep_freed_memory()
    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise ModelError(
            "train.device: gpu requires a GPU, but TensorFlow finds none. Run `make env GPU=1` on a machine with an "
            "NVIDIA driver, or set train.device: cpu"
        )
    if device == "cpu" and gpus:
        tf.config.set_visible_devices([], "GPU")


def averaged_adamw(loop: LoopParams, steps: int, weight_decay: float) -> keras.optimizers.Optimizer:
    """Return AdamW for a given number of steps, with warm-up, cosine decay and averaged weights.

    Gradients are clipped to norm 1 together. A short training averages over a twentieth of its steps. `fit` leaves the
    averaged weights in the model.
    """
    warm_up = max(1, int(_WARM_UP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        loop.learning_rate / 100, max(1, steps - warm_up), warmup_target=loop.learning_rate, warmup_steps=warm_up
    )
    momentum = min(_AVERAGE, 1 - 1 / (steps / 20 + 1))
    return keras.optimizers.AdamW(
        rate, weight_decay=weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )


def require_finite(weights: Iterable[Any], task: str, learning_rate: float) -> None:
    """Raise a DivergedError if training ended with a weight that is not finite."""
    if not all(np.isfinite(one).all() for one in weights):
        raise DivergedError(
            f"train.{task}.loop.learning_rate: the loss must stay finite; it did not with {learning_rate:g}. Lower "
            f"the learning rate"
        )


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


class Reports(keras.callbacks.Callback):
    """Reports the share of the epochs that are done, and a figure computed from the metrics of the last one."""

    def __init__(self, report: Callable[[float, float], None], figure: Callable[[Mapping[str, float]], float]) -> None:
        super().__init__()
        self._report, self._figure = report, figure

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report; what is raised ends the training."""
        self._report((epoch + 1) / self.params["epochs"], float(self._figure(logs)))


class Curves(keras.callbacks.Callback):
    """Writes learning curves for DVC, without timestamps."""

    def __init__(self, folder: Path, loss: str = "loss") -> None:
        """Write to `folder`; `loss` names the metric that is shown as the loss, if training minimizes another one."""
        super().__init__()
        self._loss = loss
        from dvclive import Live

        # dvcyaml or save_dvc_exp would rewrite dvc.yaml or make a commit in the middle of `dvc repro`.
        self.live = Live(dir=str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the metrics of one epoch."""
        shown = {
            name: logs[name.replace("loss", self._loss)] if name in ("loss", "val_loss") else logs[name]
            for name in logs
        }
        for name, value in sorted(shown.items()):
            part = "validation" if name.startswith("val_") else "train"
            self.live.log_metric(f"{part}/{name.removeprefix('val_')}", float(value))
        self.live.next_step()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        self.live.end()
