"""`shoplens benchmark` as a person calls it: the JSON it writes, twice the same, on text and on sessions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shoplens.errors import ModelError, SettingsError
from training import benchmark
from training.data.sequences import Sequences
from training.models.sequence.encoder import Size
from training.models.sequence.fit import Training
from training.models.sequence.references import EASE_ITEMS, Ease, Popularity, Transitions, reference_models
from training.protocols.ranks import bootstrap_means, summary
from training.protocols.splits import Queries, leave_one_out

pytestmark = pytest.mark.tensorflow
SHOPLENS = Path(sys.executable).parent / "shoplens"


def run(*arguments):
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(
        [SHOPLENS, "benchmark", *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


@pytest.fixture
def log(tmp_path):
    """Thirty users who go round twelve items in steps of 1 or 2, with a time per event."""
    lines = []
    for user in range(30):
        for event in range(9):
            lines.append(f"u{user}\ti{(user + event * (1 + user % 2)) % 12}\t{1_000_000 * event + user}")
    file = tmp_path / "log.txt"
    file.write_text("\n".join(reversed(lines)), encoding="utf-8")  # by time, not by line
    return file


def test_leave_one_out_twice_gives_the_same_figures(log, tmp_path):
    arguments = (log, "--protocol", "leave-one-out", "--model", "hstu", "--preset", "tiny", "--time-aware", "--epochs")
    found = []
    for name in ("a.json", "b.json"):
        said = run(*arguments, 4, "--json", tmp_path / name)
        found.append(json.loads((tmp_path / name).read_text(encoding="utf-8")))
    first, second = (one["models"]["hstu"] for one in found)
    assert first["outcome"]["losses"] == second["outcome"]["losses"]
    assert first["figures"] == second["figures"]
    assert "hstu: ndcg@10 0." in said
    assert found[0]["data"] == {
        "users": 30, "items": 12, "events": 270, "training_events": 210, "validation_queries": 30,
        "test_queries": 30, "repeat_share": 0.5,
    }  # fmt: skip
    assert set(found[0]["models"]) == {"popularity", "personal_frequency", "item_knn", "transitions", "ease", "hstu"}
    everything = first["figures"]["all"]["ndcg@10"]
    assert 0 <= everything["low"] <= everything["value"] <= everything["high"] <= 1
    assert first["figures"]["repeat"]["queries"] == first["figures"]["explore"]["queries"] == 15
    assert first["figures"]["repeat"]["hr@10"]["value"] == 0  # seen items are masked
    assert first["seed"] == 0
    assert first["parameters"] > first["parameters_without_items"] > 0


def test_sessions_with_a_test_file(tmp_path):
    train, late = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("\n".join(json.dumps([f"i{k % 7}", f"i{(k + 1) % 7}", f"i{(k + 2) % 7}"]) for k in range(80)))
    late.write_text('["i1", "i2", "i3"]\n{"items": ["i6", "new", "i0"]}\n')
    target = tmp_path / "out.json"
    run(train, "--protocol", "sessions", "--test", late, "--preset", "tiny", "--epochs", 12, "--json", target)
    found = json.loads(target.read_text(encoding="utf-8"))
    assert (found["main_metric"], found["mask_seen"], found["data"]["test_queries"]) == ("mrr@20", False, 3)
    assert found["models"]["transitions"]["figures"]["all"]["hr@5"]["value"] >= 2 / 3


def test_defaults_can_be_changed_by_name():
    size, training = benchmark.changed(Size(), Training(), ["dropout=0.5", "blocks=8", "rows=128", "schedule=constant"])
    assert (size, training) == (Size(dropout=0.5, blocks=8), Training(rows=128, schedule="constant"))
    with pytest.raises(SettingsError, match=r"NAME must be one of width, .*, popularity; received 'depth=3'"):
        benchmark.changed(Size(), Training(), ["depth=3"])
    with pytest.raises(SettingsError, match="received 'seed=5'"):  # it has an option of its own
        benchmark.changed(Size(), Training(), ["seed=5"])
    for change, message in {
        "clip=0": "clip: must be above 0; received 0",
        "clip=nan": "clip: must be above 0; received nan",
        "average=1": "average: must be at least 0 and below 1; received 1",
        "patience=0": "patience: must be at least 1; received 0",
        "evaluate_every=0": "evaluate_every: must be at least 1; received 0",
        "heads=0": "heads: must divide width 64; received 0",
    }.items():
        with pytest.raises(ModelError, match=message):
            benchmark.changed(Size(), Training(), [change])
    with pytest.raises(SettingsError, match="--set: rows must be of type int; received 'many'"):
        benchmark.changed(Size(), Training(), ["rows=many"])


def test_a_time_aware_model_requires_times(tmp_path):
    split = leave_one_out(Sequences(np.array([0, 4]), np.array([1, 2, 3, 4], np.int32), None, 4))
    settings = benchmark.Settings("hstu", time_aware=True)
    with pytest.raises(SettingsError, match="--time-aware: FILE must have times"):
        benchmark.run(split, "leave-one-out", settings, tmp_path / "out.json")


@pytest.fixture
def split():
    """Three users; the last two events of each are held out, so 1 2 3, 2 3 and 3 are learned from."""
    items = [1, 2, 3, 1, 4, 2, 3, 4, 1, 3, 4, 2]
    return leave_one_out(Sequences(np.array([0, 5, 9, 12]), np.array(items, np.int32), None, 4))


def scores(model, split):
    return next(iter(model.score(split.sequences, split.test)))[1]


def test_popularity_by_hand(split):
    assert scores(Popularity(split, 1.0), split)[0].tolist() == [1, 2, 3, 0]


def test_transitions_by_hand(split):
    """1 -> 2 once, 2 -> 3 twice, 1 -> 3 at distance two; rows are divided by the root of their sum + 1."""
    found = scores(Transitions(split, 0.5), split)
    one, two = 1 / np.sqrt(2.5), 1 / np.sqrt(3)
    ages = {1: 1 + 0.5**3, 2: 0.5**2, 3: 0.5}  # of 1 2 3 1: items 1 (twice), 2 and 3
    np.testing.assert_allclose(found[0], [0, ages[1] * one, ages[1] * 0.5 * one + ages[2] * 2 * two, 0], rtol=1e-6)


def test_ease_is_the_solution_of_its_equation(split):
    """X'X B - X'X + penalty B is diagonal, and B has a zero diagonal (Steck, 2019, equations 4 and 5)."""
    x = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], np.float64)
    model = Ease(split, 100.0)
    b = np.asarray(model._weights, np.float64)
    left = x.T @ x @ b - x.T @ x + 100 * b
    np.testing.assert_allclose(left - np.diag(np.diag(left)), 0, atol=1e-4)
    assert np.diag(b).tolist() == [0] * 4


def test_ease_is_left_out_where_its_matrix_would_be_too_large(split):
    assert "ease" in reference_models(split)
    large = Sequences(split.sequences.offsets, split.sequences.item, None, EASE_ITEMS + 1)
    assert "ease" not in reference_models(leave_one_out(large))


def test_intervals_resample_users():
    value, user = np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 9])
    means = bootstrap_means(value, user, 400, 0)
    assert means[0] == 0.75
    assert set(np.round(means[1:], 6)) == {0.0, 0.75, 1.0}  # both users, or one of them twice
    rank = np.array([1, 1, 1, 30])
    found = summary(rank, Queries(user, user, user), 400, 0)["hr@10"]
    assert found == {"value": 0.75, "low": 0.0, "high": 1.0}
