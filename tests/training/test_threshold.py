import numpy as np
import pytest

from training.threshold import cheapest_threshold

LABEL = np.array([1, 0, 1, 0, 0])
SCORE = np.array([0.9, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        # Calling none, 1 … 5 rows costs 2, 1, 1 + c, c, 2c, 3c.
        pytest.param(0.5, (0.6 + 0.4) / 2, id="cheap false alarms: both buyers are called"),
        pytest.param(1.5, (0.9 + 0.8) / 2, id="dear ones: the safest buyer only"),
        pytest.param(1.0, (0.9 + 0.8) / 2, id="of equal costs the fewest calls"),
    ],
)
def test_the_cheapest_threshold_by_hand(cost: float, expected: float) -> None:
    assert cheapest_threshold(LABEL, SCORE, cost) == pytest.approx(expected)


def test_everybody_and_nobody_can_be_called() -> None:
    assert cheapest_threshold(np.ones(3), np.array([0.1, 0.2, 0.3]), 1.0) == pytest.approx(0.05)
    assert cheapest_threshold(np.zeros(3), np.array([0.1, 0.2, 0.3]), 1.0) == pytest.approx(0.65)


def test_equal_scores_are_called_together() -> None:
    # Called together, the three cost 2 * .4; left out, 1.
    assert cheapest_threshold(np.array([1, 0, 0, 0]), np.array([0.7, 0.7, 0.7, 0.1]), 0.4) == pytest.approx(0.4)


def test_rare_buyers_are_found_where_a_half_finds_none() -> None:
    random = np.random.default_rng(0)
    score = random.beta(1, 12, 20_000)  # few probabilities above .3, as where one session in thirteen buys
    label = random.random(20_000) < score
    found = cheapest_threshold(label, score, 0.25)
    assert found == pytest.approx(0.2, abs=0.03), "c / (1 + c) for calibrated probabilities"
    assert (label & (score >= found)).sum() / label.sum() > 0.2
    assert (label & (score >= 0.5)).sum() / label.sum() < 0.02
