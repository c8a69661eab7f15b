"""Training of a sequence model: seeded batches, AdamW with warm-up, averaged weights, checkpoints to resume from."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from shoplens.errors import ModelError
from training.data.sequences import Sequences
from training.data.windows import Batch, Longs, Packing, ragged_ranges
from training.models.sequence.checkpoint import Arrays, load_checkpoint, save_checkpoint
from training.models.sequence.model import CONTEXT, SequenceModel
from training.models.sequence.negatives import Negatives
from training.models.sequence.optimizer import RowAdamW
from training.models.sequence.workers import Workers

Log = Callable[[str], None]
_CHECKPOINT = "training.npz"
_COUNTED = 5_000  # users whose targets are counted at once
_ROUND_STEPS = 1000  # a killed process loses at most this many steps


@dataclass(frozen=True)
class Training:
    """How a model is trained; the defaults are the same for every file.

    Attributes:
        epochs: Maximum number of passes over the events.
        patience: Evaluations without a better score before training stops.
        evaluate_every: Epochs between two evaluations.
        rows: Packed rows per step.
        learning_rate: Highest learning rate.
        warmup_steps: Steps over which the learning rate rises from 0.
        schedule: The learning rate after the warm-up: "constant", or "cosine" down to 1% at the last epoch.
        weight_decay: Weight decay of matrices; vectors and embedding tables are not decayed.
        clip: Maximum global norm of the gradients.
        average: Momentum of the averaged weights (EMA) that are evaluated and kept; 0 keeps the last weights.
        popularity: Negatives are drawn in proportion to count ** popularity.
        seed: Seed of batches and negatives; the model has its own seed for weights and dropout.
        max_seconds: Training stops at the end of the round in which it exceeds this time.
    """

    epochs: int = 50
    patience: int = 5
    evaluate_every: int = 2
    rows: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.995
    popularity: float = 0.0
    seed: int = 0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine"):
            raise ModelError(f"schedule: must be constant or cosine; received {self.schedule!r}")
        if not self.clip > 0:
            raise ModelError(f"clip: must be above 0; received {self.clip:g}. A large value turns clipping off")
        if not 0 <= self.average < 1:
            raise ModelError(f"average: must be at least 0 and below 1; received {self.average:g}")
        for name in ("epochs", "patience", "evaluate_every", "rows"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name}: must be at least 1; received {getattr(self, name)}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training run.

    Attributes:
        epochs: Passes over the events.
        best_epoch: The epoch whose weights were kept.
        best_score: Its score.
        positions: Number of targets, each counted as often as it was trained on.
        seconds: Time of the training steps, without evaluations.
        positions_per_second: Speed after the first round, which compiles the step.
        losses: Mean loss of each round.
    """

    epochs: int
    best_epoch: int
    best_score: float
    positions: int
    seconds: float
    positions_per_second: float
    losses: list[float]

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a constant rate, or a cosine down to 1% of the highest rate."""

    def __init__(self, highest: float, warmup: int, steps: int, *, cosine: bool) -> None:
        self.highest, self.warmup, self.steps, self.cosine = highest, warmup, steps, cosine

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rise = ops.minimum((step + 1) / max(self.warmup, 1), 1.0)
        if not self.cosine:
            return self.highest * rise
        done = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        return self.highest * rise * (0.01 + 0.99 * 0.5 * (1 + ops.cos(done * np.pi)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"highest": self.highest, "warmup": self.warmup, "steps": self.steps, "cosine": self.cosine}


def weights(model: keras.Model) -> Arrays:
    """Return copies of the trainable weights; JAX's own arrays are views of memory that training reuses."""
    return [np.array(ops.convert_to_numpy(one)) for one in model.trainable_variables]


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Give the model its averaged weights within the block, if it has any and has been trained."""
    optimizer = model.optimizer
    if not optimizer.use_ema or optimizer.done == 0:
        yield
        return
    own = weights(model)
    for variable, average in zip(model.trainable_variables, optimizer.averages(), strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def _optimizer(model: SequenceModel, training: Training, steps: int) -> RowAdamW:
    cosine = training.schedule == "cosine"
    optimizer = RowAdamW(
        _Schedule(training.learning_rate, training.warmup_steps, steps, cosine=cosine),
        weight_decay=training.weight_decay,
        beta_2=0.98,  # as in SASRec's own code
        global_clipnorm=training.clip,
        use_ema=training.average > 0,
        ema_momentum=training.average or 0.5,  # unused at 0, but must be positive
        tables=[model.vectors.table] if model.vectors.sparse else [],
    )
    tables = [one for one in model.trainable_variables if len(one.shape) < 2 or one.path.endswith("/table")]
    optimizer.exclude_from_weight_decay(var_list=tables)
    return optimizer


def prepare(batch: Batch, negatives: Negatives | None, step: int) -> tuple[dict[str, Any], Any]:
    """Return a batch in the form that Keras expects: the inputs of the model and of its loss, and the targets."""
    inputs = {name: batch[name] for name in CONTEXT}
    if negatives is not None:
        drawn = negatives.draw(step)
        inputs["negatives"], inputs["log_expected"] = drawn, negatives.log_expected[drawn]
        inputs["log_expected_target"] = negatives.log_expected[np.maximum(batch["target"] - 1, 0)]
    return inputs, batch["target"]


class Trainer:
    """Trains one model on the histories `begin` to `end` of `sequences`.

    Args:
        model: An untrained model.
        sequences: The events.
        begin: First event of each history, (users,).
        end: One past the last event of each history, (users,).
        training: How to train.
        evaluate: Returns the score of the model, higher is better. Without it, the last weights are kept.
        folder: The folder of the checkpoint; None for no checkpoint.
        log: Receives a line of progress about every `log_seconds`.
        log_seconds: See `log`.
        workers: The processes that share the work; each has a trainer with the same arguments, without `folder`
            and time limit. The model must have been created in their scope.
    """

    def __init__(
        self,
        model: SequenceModel,
        sequences: Sequences,
        begin: Longs,
        end: Longs,
        training: Training,
        *,
        evaluate: Callable[[SequenceModel], float] | None = None,
        folder: Path | None = None,
        log: Log = lambda line: None,
        log_seconds: float = 20.0,
        workers: Workers | None = None,
    ) -> None:
        usable = end - begin > 1
        if workers and training.rows % workers.number:
            raise ModelError(f"rows: must be a multiple of the {workers.number} workers; received {training.rows}")
        if workers and (training.max_seconds is not None or folder is not None):
            raise ModelError(
                "max_seconds, folder: must be unset with workers, which could stop or continue at different steps"
            )
        if not usable.any():
            raise ModelError("sequences: must have a user with at least two training events; none has. Add data")
        self.model, self.training, self.evaluate = model, training, evaluate
        self.path = folder / _CHECKPOINT if folder else None
        self.log, self.log_seconds, self.workers = log, log_seconds, workers
        if not usable.all():
            begin, end = begin[usable], end[usable]
        self.packing = Packing(sequences, begin, end, model.size.length, training.rows)
        self.negatives = self._negatives()
        # An epoch is divided into equal rounds; a checkpoint is written after each.
        batches = self.packing.count(training.seed, 0, 0)
        self.rounds_per_epoch = -(-batches // _ROUND_STEPS)
        self.round_steps = -(-batches // self.rounds_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the events."""
        return self.rounds_per_epoch * self.round_steps

    def _negatives(self) -> Negatives | None:
        output, packing = self.model.output_, self.packing
        if output.loss == "full":
            return None
        counts = np.zeros(self.model.items, np.int64)
        for first in range(0, len(packing.begin), _COUNTED):
            part = slice(first, first + _COUNTED)
            event, _ = ragged_ranges(packing.begin[part] + 1, packing.end[part] - packing.begin[part] - 1)
            counts += np.bincount(packing.sequences.item[event] - 1, minlength=self.model.items)
        return Negatives(counts, output.negatives, self.training.popularity, self.training.seed)

    def batches(self, step: int, counted: list[int]) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yield batches from a step on, endlessly, and append the number of targets of each to `counted`.

        An epoch has as many batches as the first pass. Another pass can have a few more or fewer; missing ones come
        from a second pass.
        """
        for epoch in itertools.count(step // self.steps_per_epoch):
            at = step % self.steps_per_epoch if epoch == step // self.steps_per_epoch else 0
            passes = (self.packing.batches(self.training.seed, epoch, part) for part in itertools.count())
            whole = itertools.islice(itertools.chain.from_iterable(passes), at, self.steps_per_epoch)
            for number, batch in enumerate(whole, epoch * self.steps_per_epoch + at):
                counted.append(int(np.count_nonzero(batch["target"])))
                inputs, target = prepare(batch, self.negatives, number)
                yield self.workers.part(inputs, target) if self.workers else (inputs, target)

    def compile(self) -> None:
        """Build the weights and the optimizer."""
        inputs, _ = next(self.batches(0, []))
        with self.workers.scope() if self.workers else nullcontext():
            self.model(inputs)
            optimizer = _optimizer(self.model, self.training, self.steps_per_epoch * self.training.epochs)
            self.model.compile(optimizer, jit_compile=self.model.jit_compile)
            optimizer.build(self.model.trainable_variables)
        if self.workers:
            self.workers.attach(self.model)

    def run(self) -> Outcome:
        """Train until epochs, patience or time run out; the model keeps its best averaged weights.

        If `folder` holds a checkpoint, training continues from it and ends with the same weights as without the
        interruption.
        """
        self.compile()
        progress = _Progress()
        if self.path and (found := load_checkpoint(self.model, self.path)):
            progress = _Progress(**found[0], best=found[1])
            self.log(f"continuing after epoch {progress.round / self.rounds_per_epoch:g}")
        rounds = self.training.epochs * self.rounds_per_epoch
        if progress.round < rounds and not progress.finished:
            counted: list[int] = []
            self.model.fit(
                self.batches(progress.round * self.round_steps, counted),
                initial_epoch=progress.round,
                epochs=rounds,
                steps_per_epoch=self.round_steps,
                callbacks=[_Rounds(self, progress, counted)],
                shuffle=False,
                verbose=0,
            )
        for variable, value in zip(self.model.trainable_variables, progress.best, strict=True):
            variable.assign(value)
        return Outcome(
            epochs=-(-progress.round // self.rounds_per_epoch),
            best_epoch=progress.best_epoch,
            best_score=progress.best_score,
            positions=progress.positions,
            seconds=progress.seconds,
            positions_per_second=progress.speed(),
            losses=progress.losses,
        )


@dataclass
class _Progress:
    """What a checkpoint stores besides the variables; `timed_…` exclude the round in which the step was compiled."""

    round: int = 0
    positions: int = 0
    seconds: float = 0.0
    timed_positions: int = 0
    timed_seconds: float = 0.0
    best_epoch: int = 0
    best_score: float = float("-inf")
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    best: Arrays = field(default_factory=list)

    def about(self) -> dict[str, Any]:
        """Return the fields without the weights."""
        return {name: value for name, value in self.__dict__.items() if name != "best"}

    def speed(self) -> float:
        """Return the positions per second."""
        if self.timed_seconds:
            return self.timed_positions / self.timed_seconds
        return self.positions / max(self.seconds, 1e-9)


class _Rounds(keras.callbacks.Callback):
    """After each round of steps: evaluates if it is due, writes the checkpoint, and decides whether to continue."""

    def __init__(self, trainer: Trainer, progress: _Progress, counted: list[int]) -> None:
        super().__init__()
        self.trainer, self.progress, self.counted = trainer, progress, counted
        self.first = progress.round

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.began = self.said = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Log progress periodically."""
        if time.monotonic() - self.said >= self.trainer.log_seconds:
            self.said = time.monotonic()
            done = self.progress.round + (batch + 1) / self.trainer.round_steps
            self.trainer.log(f"epoch {done / self.trainer.rounds_per_epoch:.2f}/{self.trainer.training.epochs}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Evaluate, keep the best weights and write the checkpoint."""
        trainer, progress, training = self.trainer, self.progress, self.trainer.training
        seconds = time.monotonic() - self.began
        start = (epoch - self.first) * trainer.round_steps
        positions = sum(self.counted[start : start + trainer.round_steps])
        progress.round, progress.positions = epoch + 1, progress.positions + positions
        progress.seconds += seconds
        if epoch > self.first:
            progress.timed_positions += positions
            progress.timed_seconds += seconds
        progress.losses.append(float(logs["loss"]))
        whole, rest = divmod(epoch + 1, trainer.rounds_per_epoch)
        out_of_time = training.max_seconds is not None and progress.seconds > training.max_seconds
        progress.finished = out_of_time or (rest == 0 and whole >= training.epochs)
        if progress.finished or (rest == 0 and whole % training.evaluate_every == 0):
            self._evaluate(whole)
        if trainer.path:
            save_checkpoint(self.model, trainer.path, progress.about(), progress.best)
        if progress.finished:
            self.model.stop_training = True

    def _evaluate(self, epoch: int) -> None:
        trainer, progress = self.trainer, self.progress
        with averaged(self.model):
            score = trainer.evaluate(self.model) if trainer.evaluate else float(epoch)
            if score > progress.best_score:
                progress.best_score, progress.best_epoch = score, epoch
                progress.best = weights(self.model)
        late = (epoch - progress.best_epoch) // trainer.training.evaluate_every >= trainer.training.patience
        progress.finished = progress.finished or late
        trainer.log(
            f"epoch {epoch}: loss {progress.losses[-1]:.4f}, score {score:.4f} (best {progress.best_score:.4f} at "
            f"epoch {progress.best_epoch}), {progress.seconds:.0f} s, {progress.speed():,.0f} positions/s"
        )
