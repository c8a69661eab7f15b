"""The probability from which a purchase is predicted, chosen by what mistakes cost."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cheapest_threshold(label: NDArray[Any], score: NDArray[Any], false_alarm_cost: float) -> float:
    """Return the threshold with the lowest total cost of mistakes on the given rows.

    A buyer who is not predicted costs 1, a predicted buyer who does not buy costs `false_alarm_cost`. For calibrated
    probabilities the answer is close to c / (1 + c) (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001);
    choosing it on rows also serves probabilities that are not.

    Args:
        label: 0 or 1, (rows,), of rows that the model has not learned from.
        score: Probabilities, (rows,).
        false_alarm_cost: Cost of a false alarm in missed buyers, above 0.
    """
    order = np.argsort(-score, kind="stable")
    y, s = label[order].astype(np.float64), score[order].astype(np.float64)
    end = np.flatnonzero(np.append(np.diff(s) != 0, True))  # the last row of each tie: equal scores are called together
    missed = y.sum() - np.concatenate([[0.0], np.cumsum(y)[end]])
    false_alarms = np.concatenate([[0.0], np.cumsum(1 - y)[end]])
    best = int(np.argmin(missed + false_alarm_cost * false_alarms))  # of equal costs the fewest calls
    # Half-way to the next score, so that rounding does not move a row across.
    above = 1.0 if best == 0 else s[end[best - 1]]
    below = 0.0 if best == len(end) else s[end[best]]
    return float((above + below) / 2)
