"""The gate's decision, on samples whose intervals can be read off."""

import numpy as np
import pytest

from serving.gate import decide
from training.evaluation.judge import Judged


def _judged(value: float) -> Judged:
    return Judged({"average_precision": np.full(101, value)})


@pytest.mark.parametrize(
    ("new", "margin", "accepted"),
    [
        (0.500, 0.005, True),  # difference 0, at least -0.005
        (0.496, 0.005, True),  # -0.004
        (0.494, 0.005, False),  # -0.006
        (0.500, None, False),  # the first release must beat its baseline: 0 is not above 0
        (0.501, None, True),
    ],
)
def test_decision(new: float, margin: float | None, accepted: bool) -> None:
    head = decide("purchase", "rival", _judged(new), _judged(0.5), margin)
    assert head.accepted is accepted
    assert head.difference.value == pytest.approx(new - 0.5)


def test_lower_bound_decides_not_the_value() -> None:
    # Value +0.1, but 10 of 100 resamples say -0.2: the 2.5th percentile is -0.2.
    new = np.full(101, 0.6)
    new[1:11] = 0.3
    head = decide("purchase", "rival", Judged({"average_precision": new}), _judged(0.5), 0.005)
    assert head.difference.value == pytest.approx(0.1)
    assert not head.accepted
