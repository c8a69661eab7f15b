"""Two processes on loopback train the model that one process trains, and say what is wrong with their arguments."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from worker_losses import trained

from shoplens.errors import ModelError
from training.models.sequence.workers import Workers

pytestmark = pytest.mark.tensorflow


def free_addresses(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def test_two_processes_train_what_one_trains(root, tmp_path):
    script = Path(__file__).parent / "worker_losses.py"
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_ENABLE_ONEDNN_OPTS": "0"}
    addresses, files = free_addresses(2), [tmp_path / "0.npz", tmp_path / "1.npz"]
    started = [
        subprocess.Popen(
            [sys.executable, script, file, str(index), *addresses], env=environment, stderr=subprocess.PIPE, text=True
        )
        for index, file in enumerate(files)
    ]
    try:
        expected = trained()
        errors = [one.communicate(timeout=300)[1] for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [0, 0], errors[0][-2000:]
    for file in files:
        with np.load(file) as found:
            assert set(found.files) == set(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    assert expected["losses"][1] < expected["losses"][0]


@pytest.mark.parametrize(
    ("addresses", "index", "message"),
    [
        (("127.0.0.1:1",), 0, "workers: must be at least two addresses; received 127.0.0.1:1"),
        (("127.0.0.1:1", "127.0.0.1:2"), 2, "worker: must be from 0 to 1, one per address; received 2"),
    ],
)
def test_wrong_workers_are_rejected(addresses, index, message):
    with pytest.raises(ModelError, match=message):
        Workers(addresses, index)
