"""Calibration: bins and errors by hand; perfect scores pass the check, distorted ones do not."""

import numpy as np
import pytest

from training.calibration import Platt, calibration_error, check_calibration, equal_count_bins, focal_probability


@pytest.mark.parametrize(
    ("score", "bins", "expected"),
    [
        pytest.param([0.4, 0.1, 0.3, 0.2], 2, [1, 0, 1, 0], id="halves"),
        pytest.param([0.1, 0.2, 0.3], 10, [0, 1, 2], id="fewer rows than bins: one each"),
        pytest.param([0.5] * 7, 10, [0] * 7, id="one score for everyone: one bin"),
        pytest.param([0.1, 0.2, 0.2, 0.2, 0.3, 0.4], 3, [0, 1, 1, 1, 2, 2], id="a tie is not split"),
    ],
)
def test_bins_have_equal_counts_and_split_no_tie(score: list[float], bins: int, expected: list[int]) -> None:
    assert equal_count_bins(np.array(score), bins).tolist() == expected


def test_the_error_by_hand() -> None:
    label, score = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.2, 0.2, 0.9, 0.7])
    member = np.array([0, 0, 1, 1])
    # Bin 0: .5 bought, .2 predicted; bin 1: 1 and .8. Without the first row: 1 and .2 of one row; 1 and .8 of two.
    weight = np.array([[1, 1, 1, 1], [0, 1, 1, 1]])
    found = calibration_error(label, score, member, weight)
    assert found.tolist() == pytest.approx([(0.3 + 0.2) / 2, (0.8 + 2 * 0.2) / 3])


def test_the_check_by_hand() -> None:
    label = np.array([0, 0, 1, 1, 1, 1], dtype=np.float32)
    score = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=np.float32)
    found = check_calibration(label, score, seed=1)
    assert found.rows == (3, 3)
    assert found.predicted == (0, 1)
    assert found.observed == pytest.approx((1 / 3, 1))
    # Scores of 0 and 1 leave nothing to chance.
    assert (found.low, found.high, found.limit) == ((0, 1), (0, 1), 0)
    assert found.error == pytest.approx(1 / 6)
    assert not found.calibrated
    assert found.bins_outside == 1


def test_perfect_scores_fail_once_in_twenty_times_and_distorted_ones_always() -> None:
    random = np.random.default_rng(0)
    passed, outside, distorted = 0, 0, 0
    for seed in range(60):
        score = random.beta(2, 2, 1500)
        label = (random.random(1500) < score).astype(np.float32)
        found = check_calibration(label, score, seed)
        passed, outside = passed + found.calibrated, outside + found.bins_outside
        sharp = score**2 / (score**2 + (1 - score) ** 2)
        distorted += check_calibration(label, sharp, seed).calibrated
    assert 52 <= passed <= 60, "57 expected"
    assert 12 <= outside <= 50, "30 expected: .5 of ten bins in each of 60 draws"
    assert distorted == 0


def test_platt_recovers_a_distortion_and_keeps_the_ranking() -> None:
    random = np.random.default_rng(1)
    true = random.normal(0, 1.5, 20_000)
    label = (random.random(20_000) < 1 / (1 + np.exp(-true))).astype(np.float32)
    found = Platt.fit(true * 2.0 + 0.7, label)  # overconfident and too high
    assert found.slope == pytest.approx(0.5, rel=0.05)
    assert found.intercept == pytest.approx(-0.35, abs=0.06)
    probability = found.probability(true * 2.0 + 0.7)
    assert check_calibration(label, probability, seed=3).calibrated
    assert (np.argsort(probability, kind="stable") == np.argsort(true.astype(np.float32), kind="stable")).mean() > 0.9


def test_platt_leaves_alone_what_cannot_be_calibrated() -> None:
    logit = np.array([-1.0, 0.0, 1.0, 2.0])
    assert Platt.fit(logit, np.ones(4)) == Platt()
    assert Platt.fit(logit, np.array([1.0, 1.0, 0.0, 0.0])) == Platt(), "a negative slope would reverse the ranking"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_the_focal_loss_is_smallest_at_a_score_that_gives_the_share_back(share: float) -> None:
    q = np.linspace(1e-4, 1 - 1e-4, 400_001)
    loss = -share * (1 - q) ** 2 * np.log(q) - (1 - share) * q**2 * np.log(1 - q)
    best = q[np.argmin(loss)]
    assert abs(best - 0.5) <= abs(share - 0.5) + 1e-3, "nearer to a half than the share: no probability"
    assert focal_probability(np.array([best]), 2.0)[0] == pytest.approx(share, abs=1e-3)
