"""Leave-one-out over the history: how an answer changes when one order or session is removed from it.

Predictions with and without a part are compared, as in Li, Monroe & Jurafsky ("Understanding neural networks through
representation erasure", arXiv 1612.08220, eq. 1). All shortened histories are predicted in one call.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from features.histories import Histories
from shoplens.errors import ModelError
from training.rows import Inputs

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Places = NDArray[np.int64]
PARTS = 40  # orders or sessions that are left out one by one; the oldest part holds all earlier ones


def by_size(effects: Numbers) -> Places:
    """Return the places of the effects by absolute size, largest first."""
    return np.argsort(-np.abs(effects), kind="stable")


def require_one_row(inputs: Inputs) -> None:
    """Raise a ModelError unless there is exactly one row."""
    if len(inputs) != 1:
        raise ModelError(f"inputs: an explanation is of one row; received {len(inputs)}. Take one of them")


def parts_of(history: Histories, most: int) -> Places:
    """Return the part that each event of the history of one row belongs to, (events,); part 0 is the oldest.

    A part is an order, or a session where there are no orders; if the history is a single session, each event is a
    part. All parts before the latest `most` - 1 are merged into part 0.
    """
    order = np.asarray(history.log.order[history.begin[0] : history.end[0]])
    _, number = np.unique(order, return_inverse=True)
    if len(order) and number.max() == 0:
        number = np.arange(len(order))
    last = np.zeros(number.max(initial=-1) + 1, dtype=np.int64)
    last[number] = np.arange(len(number))  # the latest event of each part
    rank = np.argsort(np.argsort(last))
    return np.maximum(rank[number] - max(0, len(last) - most), 0)


def without(inputs: Inputs, left_out: Mask) -> Inputs:
    """Return one row per mask: the row of `inputs` with a history that lacks the marked events.

    Features computed from the history change with it; slow features, which come from snapshots, do not.

    Args:
        inputs: One row.
        left_out: Whether to leave out each event, (variants, events).
    """
    require_one_row(inputs)
    place = np.nonzero(~left_out)[1]
    end = np.cumsum((~left_out).sum(axis=1))
    log = inputs.history.log.at(place + inputs.history.begin[0])
    history = Histories(log, np.concatenate([[0], end[:-1]])[: len(end)], end)
    return inputs.take(np.zeros(len(left_out), dtype=np.int64)).with_history(history)


def leave_one_out(inputs: Inputs, part: Places, predict: Callable[[Inputs], Numbers]) -> Numbers:
    """Return the prediction with the whole history, and without each part, (1 + parts, ...).

    Args:
        inputs: One row.
        part: See `parts_of`.
        predict: Maps inputs to one prediction per row, (rows, ...).
    """
    whole = np.zeros((1, len(part)), dtype=bool)
    each = np.arange(part.max(initial=-1) + 1)[:, None] == part
    return predict(without(inputs, np.concatenate([whole, each])))
