"""AdamW for sequence models: of a large catalogue, a step changes only the item vectors that it reads."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from training.models.sequence import backends


class RowAdamW(keras.optimizers.AdamW):
    """AdamW that updates only table rows with a gradient: time and memory of a step depend on the batch, not the table.

    The moments of a row stay unchanged while no step reads it ("lazy Adam"). Its average is brought up to date when it
    is read again; this is exact, because the row was constant meanwhile. Other variables are updated as by AdamW.

    Args:
        tables: Trainable variables of shape (rows, width) to update by row; they must be excluded from weight decay.
        more: Arguments of `keras.optimizers.AdamW`; `global_clipnorm` is required.
    """

    def __init__(self, *args: Any, tables: list[Any], **more: Any) -> None:
        super().__init__(*args, **more)
        self._tables = {one.path for one in tables}
        self._row_averages: dict[str, tuple[Any, Any]] = {}  # path -> averages, the last step of each row

    def build(self, var_list: list[Any]) -> None:
        """Create the moments and averages, and the last step of each row of a table.

        Call it before the first step: in a compiled step, the averages would be reset at every step.
        """
        if self.built:
            return
        super().build(var_list)
        for number, variable in enumerate(var_list):
            if self.use_ema and variable.path in self._tables:
                average = self._model_variables_moving_average[number]
                average.assign(np.array(ops.convert_to_numpy(variable)))  # JAX would donate a shared array twice
                steps = self.add_variable((variable.shape[0], 1), dtype="int32", name="last_step")
                self._row_averages[variable.path] = average, steps
                self._model_variables_moving_average[number] = None  # so Keras does not update it

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        """Clip by the norm of the gradients summed over all workers; Keras would clip before summing."""
        return backends.clip_by_global_norm(backends.sum_over_workers(grads), self.global_clipnorm)

    def _all_reduce_sum_gradients(self, grads_and_vars: list[Any]) -> list[Any]:
        """Return the gradients unchanged: clipping has summed them. Called with TensorFlow only."""
        return list(grads_and_vars)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its moments; for a table, also the averages, and only rows that have a gradient."""
        number = self._get_variable_index(variable)
        path = self._trainable_variables[number].path
        if path not in self._tables:
            super().update_step(gradient, variable, learning_rate)
            return
        step = ops.cast(self.iterations + 1, "float32")
        rows = backends.TouchedRows(gradient)
        moment, velocity = self._momentums[number], self._velocities[number]
        first = self.beta_1 * rows.read(moment) + (1 - self.beta_1) * rows.gradient
        second = self.beta_2 * rows.read(velocity) + (1 - self.beta_2) * ops.square(rows.gradient)
        rate = learning_rate * ops.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        old = rows.read(variable)
        new = old - rate * first / (ops.sqrt(second) + self.epsilon)
        if self.use_ema:
            average, steps = self._row_averages[path]
            unread = step - 1 - ops.cast(rows.read(steps), "float32")
            caught_up = old + self.ema_momentum**unread * (rows.read(average) - old)
            momentum = ops.where(step > 1, self.ema_momentum, 0.0)  # as Keras: the first step starts the average
            rows.write(average, momentum * caught_up + (1 - momentum) * new)
            rows.write(steps, ops.zeros_like(rows.read(steps)) + ops.cast(step, "int32"))
        rows.write(moment, first)
        rows.write(velocity, second)
        rows.write(variable, new)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Leave the weights unchanged: training keeps the best averages, not the last ones."""

    @property
    def done(self) -> int:
        """The number of steps so far."""
        return int(ops.convert_to_numpy(self.iterations))

    def averages(self) -> list[NDArray[Any]]:
        """Return the averaged weights in the order of the trainable variables, as of the last step."""
        found = []
        for variable, kept in zip(self._trainable_variables, self._model_variables_moving_average, strict=True):
            if variable.path not in self._row_averages:
                found.append(np.array(ops.convert_to_numpy(kept)))
                continue
            average, steps = self._row_averages[variable.path]
            unread = self.done - ops.convert_to_numpy(steps)
            own, value = ops.convert_to_numpy(variable), np.array(ops.convert_to_numpy(average))
            value -= own
            value *= np.float32(self.ema_momentum) ** unread
            value += own
            found.append(value)
        return found
