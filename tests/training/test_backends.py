"""TensorFlow and JAX compute the same states, losses and training steps, to 1e-5."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from training.models.sequence.presets import ENCODERS

pytestmark = pytest.mark.tensorflow


def outputs(root, file, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    script = root / "tests" / "training" / "backend_outputs.py"
    done = subprocess.run([sys.executable, script, file], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(file) as found:
        return dict(found)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_computes_what_tensorflow_computes(root, tmp_path):
    expected = outputs(root, tmp_path / "tensorflow.npz", "tensorflow")
    found = outputs(root, tmp_path / "jax.npz", "jax")
    assert len(expected) == len(ENCODERS) + 2 * 3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, rtol=1e-5, err_msg=name)
        assert np.ptp(value) > 1e-3
