"""Training in several processes, on one machine or many: each computes some rows of every batch.

The processes read the same data and draw the same batches. Gradients and target counts are summed over the processes
before clipping, so a step equals that of one process with all rows. Dropout masks are the same in all processes.
"""

from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from shoplens.errors import ModelError

_SHARED = ("negatives", "log_expected")  # inputs that all rows share


class Workers:
    """The processes that train one model together, through `tf.distribute.MultiWorkerMirroredStrategy`.

    Creating one waits until all processes have connected. It must precede all other use of TensorFlow.

    Args:
        addresses: `host:port` of each process, in the same order in all of them.
        index: The place of this process among them, from 0.

    Raises:
        ModelError: fewer than two addresses, no such index, or a backend other than TensorFlow.
    """

    def __init__(self, addresses: tuple[str, ...], index: int) -> None:
        if len(addresses) < 2:
            raise ModelError(f"workers: must be at least two addresses; received {', '.join(addresses) or 'none'}")
        if not 0 <= index < len(addresses):
            raise ModelError(f"worker: must be from 0 to {len(addresses) - 1}, one per address; received {index}")
        if keras.backend.backend() != "tensorflow":
            raise ModelError(
                f"workers: must be used with Keras's backend tensorflow; received {keras.backend.backend()}. Unset "
                f"KERAS_BACKEND"
            )
        import tensorflow as tf

        self.number, self.index = len(addresses), index
        cluster = tf.train.ClusterSpec({"worker": list(addresses)})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type="worker", task_id=index)
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the model and its optimizer must be created."""
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def part(self, inputs: dict[str, Any], target: Any) -> tuple[dict[str, Any], Any]:
        """Return the rows of a batch that this process computes."""
        rows = np.array_split(np.arange(len(target)), self.number)[self.index]
        return {name: one if name in _SHARED else one[rows] for name, one in inputs.items()}, target[rows]

    def attach(self, model: Any) -> None:
        """Make `model.fit` compute each step together with the other processes; call it after `model.compile`.

        Keras 3.15's own loop fails with this strategy: it takes the mean of distributed values without recognizing
        them, and reduces the scalar loss along an axis (keras#20585, tensorflow#72388).
        """
        import tensorflow as tf

        strategy = self._strategy
        model._distribute_strategy = None  # the data of `fit` are those of this process alone

        @tf.function
        def step(data: Any) -> dict[str, Any]:
            logs = strategy.run(model.train_step, args=(data,))
            return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, one, axis=None) for name, one in logs.items()}

        model.train_function = lambda iterator: step(next(iterator))
