"""Trains a small model in one of two processes and writes losses and weights: `… FILE INDEX ADDRESS ADDRESS`."""

import sys
from contextlib import nullcontext

import numpy as np

from training.data.sequences import Sequences
from training.models.sequence.encoder import Size
from training.models.sequence.fit import Trainer, Training, weights
from training.models.sequence.model import Output, SequenceModel
from training.models.sequence.workers import Workers

ITEMS, USERS, LENGTH = 30, 40, 8
TRAINING = Training(epochs=2, evaluate_every=1, rows=6, learning_rate=0.01, warmup_steps=2, clip=0.2)


def trained(workers=None):
    """Return the losses and weights of a model without dropout."""
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(random.integers(2, 15, USERS))]).astype(np.int64)
    sequences = Sequences(offsets, random.integers(1, ITEMS + 1, offsets[-1]).astype(np.int32), None, ITEMS)
    with workers.scope() if workers else nullcontext():
        size = Size(width=16, blocks=1, heads=2, length=LENGTH, dropout=0.0)
        model = SequenceModel(ITEMS, "sasrec", size, Output("sampled", negatives=10))
    outcome = Trainer(model, sequences, offsets[:-1], offsets[1:], TRAINING, workers=workers).run()
    return {"losses": outcome.losses} | {str(k): one for k, one in enumerate(weights(model))}


if __name__ == "__main__":
    together = Workers(tuple(sys.argv[3:]), int(sys.argv[2]))
    np.savez(sys.argv[1], **trained(together))
