"""Writes what every encoder computes from fixed weights, in the backend that KERAS_BACKEND names: `… FILE`."""

import sys

import keras
import numpy as np

from training.data.sequences import Sequences
from training.data.windows import Packing
from training.models.sequence.encoder import Size
from training.models.sequence.fit import prepare
from training.models.sequence.model import Output, SequenceModel
from training.models.sequence.negatives import Negatives
from training.models.sequence.optimizer import RowAdamW
from training.models.sequence.presets import ENCODERS, encoder_class

ITEMS, LENGTH = 40, 20
TRAINED = {
    "sasrec": Output("sampled", cosine=True, temperature=0.1, negatives=10),
    "hstu": Output(smoothing=0.1, chunk=7),
}


def main() -> None:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(random.integers(2, 30, 50))]).astype(np.int64)
    events = int(offsets[-1])
    item, time = random.integers(1, ITEMS + 1, events).astype(np.int32), np.sort(random.integers(0, 10**8, events))
    packing = Packing(Sequences(offsets, item, time, ITEMS), offsets[:-1], offsets[1:], LENGTH, 8)
    batch = next(packing.batches(0))
    found = {}
    for name in ENCODERS:
        output = TRAINED.get(name, Output())
        size = Size(width=16, blocks=2, heads=2, length=LENGTH, dropout=0.0)
        model = SequenceModel(ITEMS, name, size, output, time_aware=encoder_class(name).reads_time)
        negatives = Negatives(np.arange(ITEMS), 10, 0.5, 0) if output.loss == "sampled" else None
        inputs, target = prepare(batch, negatives, 0)
        model(inputs)
        weight = np.random.default_rng(1)
        for variable in model.trainable_variables:
            variable.assign(weight.normal(size=variable.shape) * 0.1 + variable.path.endswith("gamma"))
        found[f"{name}-states"] = keras.ops.convert_to_numpy(model(inputs))
        if name in TRAINED:
            # A large epsilon: Adam would turn the rounding of a gradient near zero into a whole step.
            tables = [model.vectors.table] if model.vectors.sparse else []
            optimizer = RowAdamW(1e-3, tables=tables, global_clipnorm=1.0, use_ema=True, epsilon=1e-2)
            optimizer.exclude_from_weight_decay(var_list=tables)
            optimizer.build(model.trainable_variables)
            model.compile(optimizer, jit_compile=model.jit_compile)
            found[f"{name}-losses"] = np.array([model.train_on_batch(inputs, target) for _ in range(3)])
            found[f"{name}-table"] = keras.ops.convert_to_numpy(model.vectors.table)
            found[f"{name}-average"] = optimizer.averages()[0]
    np.savez(sys.argv[1], **found)


if __name__ == "__main__":
    main()
