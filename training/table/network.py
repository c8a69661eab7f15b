"""A small dense network (Keras), reproducible from its seed. Importing this module imports TensorFlow."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from shoplens.files import read_json, write_json
from training.table.inputs import Labels, Matrix, Scores

_WIDTHS = (64, 32)
_DROPOUT = 0.2
_EPOCHS, _PATIENCE, _BATCH, _RATE = 60, 6, 256, 2e-3
_EVERY = 10  # epochs between two lines of progress
_FAR = 8.0  # standard deviations; clipping keeps extreme inputs within the range seen in training
_CARD, _WEIGHTS = "network.json", "network.weights.h5"


def _print_progress(epoch: int, logs: dict[str, float]) -> None:
    from shoplens.stage import console  # not part of the Bento, where nothing is trained

    if epoch % _EVERY == 0:
        console.print(f"  epoch {epoch + 1}: loss {logs['loss']:.4f}, validation {logs['val_loss']:.4f}")


def _build(inputs: int) -> keras.Model:
    layers: list[keras.Layer] = [keras.Input((inputs,))]  # (batch, inputs)
    for place, width in enumerate(_WIDTHS):
        layers.append(keras.layers.Dense(width, activation="relu", name=f"hidden_{place}"))
        layers.append(keras.layers.Dropout(_DROPOUT, name=f"dropout_{place}"))
    # Explicit names: Keras numbers layers per process and writes their names into the weights file.
    return keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid", name="answer")], name="network")


def _near(matrix: Matrix) -> Scores:
    return np.clip(matrix, -_FAR, _FAR).astype(np.float32)


class Network:
    """Two hidden layers with dropout, and early stopping on the validation loss."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.model: keras.Model = None

    def fit(self, train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels]) -> None:
        """See `Learner.fit`."""
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(self.seed)
        self.model = _build(train[0].shape[1])
        self.model.compile(optimizer=keras.optimizers.Adam(_RATE), loss="binary_crossentropy", jit_compile=False)
        stop = keras.callbacks.EarlyStopping("val_loss", patience=_PATIENCE, restore_best_weights=True)
        self.model.fit(
            _near(train[0]),
            train[1].astype(np.float32),
            validation_data=(_near(validation[0]), validation[1].astype(np.float32)),
            epochs=_EPOCHS,
            batch_size=_BATCH,
            callbacks=[stop, keras.callbacks.LambdaCallback(on_epoch_end=_print_progress)],
            verbose=0,
        )

    def predict(self, matrix: Matrix) -> Scores:
        """See `Learner.predict`. The model is called directly: Keras' `predict()` leaks in a loop (Keras 13118)."""
        near = _near(matrix)
        parts = [np.asarray(self.model(near[at : at + 8_192], training=False)) for at in range(0, len(near), 8_192)]
        return np.asarray(np.concatenate(parts)[:, 0], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the architecture and the weights."""
        write_json(folder / _CARD, {"inputs": self.model.input_shape[1]})
        network = _build(self.model.input_shape[1])  # not compiled, so that no optimizer state is saved
        network.set_weights(self.model.get_weights())
        network.save_weights(folder / _WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "Network":
        """Load the architecture and the weights."""
        network = cls(0)
        network.model = _build(read_json(folder / _CARD)["inputs"])
        network.model.load_weights(folder / _WEIGHTS)
        return network
