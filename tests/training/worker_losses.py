"""Trains a small model and writes its losses and weights: `… FILE LOSS [INDEX ADDRESS ADDRESS]`."""

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from training.data.sequences import Sequences
from training.models.sequence.encoder import Size
from training.models.sequence.fit import Trainer, Training, weights
from training.models.sequence.model import Output, SequenceModel
from training.models.sequence.workers import Workers

ITEMS, USERS, LENGTH = 30, 40, 8


def main() -> None:
    file, loss, *rest = sys.argv[1:]
    workers = Workers(tuple(rest[1:]), int(rest[0])) if rest else None
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(random.integers(2, 15, USERS))]).astype(np.int64)
    item = random.integers(1, ITEMS + 1, offsets[-1]).astype(np.int32)
    sequences = Sequences(offsets, item, None, ITEMS)
    with workers.scope() if workers else nullcontext():
        size = Size(width=16, blocks=1, heads=2, length=LENGTH, dropout=0.0)
        model = SequenceModel(ITEMS, "sasrec", size, Output(loss, negatives=10))
    training = Training(epochs=3, evaluate_every=1, rows=6, learning_rate=0.01, warmup_steps=2, clip=0.5)
    trainer = Trainer(
        model, sequences, offsets[:-1], offsets[1:], training, folder=Path(file).with_suffix(""), workers=workers
    )
    outcome = trainer.run()
    np.savez(file, losses=outcome.losses, **{f"w{k}": one for k, one in enumerate(weights(model))})


if __name__ == "__main__":
    main()
