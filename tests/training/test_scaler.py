"""Standardization by hand; that every model keeps the scale of its training rows alone is held in test_models."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from training.models.scaler import Scaler
from training.rows import Inputs, RowSet


def _with(inputs: Inputs, tabular: Any) -> Inputs:
    return dataclasses.replace(inputs, tabular=np.asarray(tabular, dtype=np.float32))


def test_mean_and_deviation_equal_a_hand_calculation(make: Callable[..., RowSet]) -> None:
    # Levels log(1 + x) of the first feature: 0, 2, 4 and missing: mean 2, deviation sqrt(8/3); the second never varies.
    given = _with(make("purchase", 4, 1).inputs, [[0, 5], [math.expm1(2), 5], [math.expm1(4), 5], [math.nan, 5]])
    scaler = Scaler.fit(given)
    assert scaler.mean[0] == pytest.approx(2, abs=1e-6)
    assert scaler.deviation[0] == pytest.approx(math.sqrt(8 / 3), abs=1e-6)
    assert scaler.deviation[1] == math.inf
    step = 2 / math.sqrt(8 / 3)
    expected = [-step, 0, 0, 0, 0, 0, 0, 0, step, 0, 0, 0, 0, 0, 1, 0]
    assert scaler.apply(given).ravel().tolist() == pytest.approx(expected, abs=1e-6)


def test_the_scaler_survives_json(make: Callable[..., RowSet]) -> None:
    inputs = make("purchase", 50, 1).inputs
    scaler = Scaler.fit(_with(inputs, np.where(np.arange(2) == 1, 3.0, inputs.tabular)))
    assert scaler.deviation[1] == math.inf
    assert Scaler.from_json(json.loads(json.dumps(scaler.as_json()))) == scaler
