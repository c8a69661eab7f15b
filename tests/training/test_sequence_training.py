"""Training end to end: what can be learned is learned, an untrained model fails; a killed training resumes."""

from dataclasses import replace

import numpy as np
import pytest

from training.benchmark import Settings, train_once
from training.data.sequences import Sequences
from training.models.sequence import fit
from training.models.sequence.encoder import Size
from training.models.sequence.fit import Trainer, Training, weights
from training.models.sequence.model import Output, SequenceModel
from training.models.sequence.presets import ENCODERS
from training.models.sequence.score import ModelScorer
from training.protocols.ranks import rank_metrics, ranks
from training.protocols.splits import leave_one_out

pytestmark = pytest.mark.tensorflow

ITEMS, USERS, LENGTH = 24, 120, 10
SIZE = Size(width=32, blocks=1, heads=2, length=LENGTH, dropout=0.1)
QUICK = Training(epochs=40, evaluate_every=40, rows=16, learning_rate=1e-2, warmup_steps=20, average=0.9)


def world(step):
    """Each user adds the same number to the item again and again."""
    start = np.random.default_rng(0).integers(0, ITEMS, USERS)
    item = (start[:, None] + step[:, None] * np.arange(LENGTH + 2)) % ITEMS + 1
    offsets = np.arange(USERS + 1, dtype=np.int64) * (LENGTH + 2)
    return leave_one_out(Sequences(offsets, item.ravel().astype(np.int32), None, ITEMS))


@pytest.fixture(scope="module")
def steps():
    """The number is from 1 to 3: two events tell which."""
    return world(np.random.default_rng(1).integers(1, 4, USERS))


@pytest.fixture(scope="module")
def model(steps):
    return trained(steps, "hstu")[0]


def hit_rate(model, split):
    return float((ranks(ModelScorer(model), split.sequences, split.test, mask_seen=False) == 1).mean())


def trained(split, name="sasrec", seed=0, **changes):
    settings = Settings(name, SIZE, training=QUICK, **changes)
    return train_once(split, settings, seed, score=lambda model: hit_rate(model, split))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_learns_what_can_be_learned(steps, name):
    assert hit_rate(SequenceModel(ITEMS, name, SIZE), steps) < 0.3
    model, outcome = trained(steps, name)
    assert hit_rate(model, steps) == outcome.best_score > 0.75  # the last event alone leaves three items
    assert outcome.positions == pytest.approx(40 * USERS * (LENGTH - 1), rel=0.2)


def test_sampled_softmax_learns_the_same(steps):
    assert hit_rate(trained(steps, "hstu", output=Output("sampled", negatives=12))[0], steps) > 0.9


def test_generalized_bce_learns_what_follows():
    after = world(np.ones(USERS, np.int64))
    assert hit_rate(trained(after, "hstu", output=Output("gbce", negatives=12))[0], after) > 0.9


def test_cosine_temperature_and_smoothing_learn_the_same(steps):
    assert hit_rate(trained(steps, "hstu", output=Output(cosine=True, temperature=0.1, smoothing=0.05))[0], steps) > 0.9


@pytest.fixture(scope="module")
def gaps():
    """After a short time comes an item of the first half, after a long time one of the second."""
    random = np.random.default_rng(0)
    late = random.integers(0, 2, (USERS, LENGTH + 2))
    time = 1_500_000_000 + np.cumsum(np.where(late, 86_400, 60), axis=1)
    item = 1 + random.integers(0, 2, late.shape) + 2 * late
    offsets = np.arange(USERS + 1, dtype=np.int64) * (LENGTH + 2)
    return leave_one_out(Sequences(offsets, item.ravel().astype(np.int32), time.ravel(), 4))


@pytest.mark.parametrize("time_aware", [True, False])
def test_the_moment_asked_tells_what_is_next(gaps, time_aware):
    def in_two(model):
        return float((ranks(ModelScorer(model), gaps.sequences, gaps.test, mask_seen=False) <= 2).mean())

    settings = Settings("hstu", SIZE, training=replace(QUICK, epochs=20, evaluate_every=20), time_aware=time_aware)
    model, _ = train_once(gaps, settings, 0, score=in_two)
    assert (in_two(model) > 0.8) == time_aware
    history = Sequences(np.array([0, 2]), np.array([1, 2], np.int32), np.array([1_500_000_000, 1_500_000_060]), 4)
    soon = ModelScorer(model).recommend(history, 2, mask_seen=False, asked=np.array([1_500_000_120]))
    later = ModelScorer(model).recommend(history, 2, mask_seen=False, asked=np.array([1_500_086_460]))
    assert (set(soon[0][0].tolist()), set(later[0][0].tolist())) == ({1, 2}, {3, 4}) or not time_aware


def test_recommendations_are_the_ranking(steps, model):
    history = steps.sequences
    scorer = ModelScorer(model)
    item, score = scorer.recommend(history, 5, mask_seen=False)
    last, step = history.item[history.offsets[1:] - 1], np.diff(history.item.reshape(USERS, -1)[:, :2])[:, 0] % ITEMS
    assert (item[:, 0] == (last - 1 + step) % ITEMS + 1).mean() > 0.9
    assert (np.diff(score, axis=1) <= 0).all()
    all_items, all_scores = scorer.recommend(history, 10 * ITEMS, mask_seen=True)
    assert (np.sort(all_items, axis=1) == np.arange(1, ITEMS + 1)).all()
    for user in range(USERS):
        seen = np.unique(history.item[history.offsets[user] : history.offsets[user + 1]])
        assert set(all_items[user][np.isneginf(all_scores[user])]) == set(seen)


class Killed(BaseException):
    """What no handler catches, as a signal would end the process."""


def small_trainer(split, folder=None, killed_at=None):
    """Train for six epochs with checkpoints within each; it dies in the evaluation of the epoch `killed_at`."""
    model = SequenceModel(ITEMS, "sasrec", SIZE, Output("sampled", negatives=10), seed=5)
    training = replace(QUICK, epochs=6, evaluate_every=1, rows=8, warmup_steps=5, seed=5)
    count = iter(range(1, 100))

    def score(model):
        if next(count) == killed_at:
            raise Killed
        return hit_rate(model, split)

    return Trainer(model, split.sequences, split.begin, split.end, training, evaluate=score, folder=folder)


def bytes_of(trainer):
    return b"".join(one.tobytes() for one in weights(trainer.model))


def test_a_killed_training_ends_with_the_same_weights(steps, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "_ROUND_STEPS", 7)  # 19 steps per epoch: three rounds
    whole = small_trainer(steps)
    assert whole.rounds_per_epoch == 3
    outcome = whole.run()
    for killed_at in (2, 1):  # the second run resumes in the middle of an epoch, twice
        with pytest.raises(Killed):
            small_trainer(steps, tmp_path, killed_at).run()
    resumed = small_trainer(steps, tmp_path)
    again = resumed.run()
    assert bytes_of(resumed) == bytes_of(whole)
    assert (again.losses, again.best_epoch, again.positions) == (outcome.losses, outcome.best_epoch, outcome.positions)
    finished = small_trainer(steps, tmp_path)
    finished.run()
    assert bytes_of(finished) == bytes_of(whole)


@pytest.mark.parametrize("name", ["esasrec", "hstu", "lstm"])
def test_weights_follow_from_the_seed(steps, name):
    def weights_of(seed, *, trained):
        model = SequenceModel(ITEMS, name, SIZE, seed=seed)
        trainer = Trainer(model, steps.sequences, steps.begin, steps.end, replace(QUICK, epochs=1, seed=seed))
        trainer.run() if trained else trainer.compile()
        return weights(model)

    once, again = weights_of(1, trained=True), weights_of(1, trained=True)
    assert all((one == same).all() for one, same in zip(once, again, strict=True))
    pairs = zip(weights_of(1, trained=False), weights_of(2, trained=False), strict=True)
    matrices = [pair for pair in pairs if pair[0].ndim == 2]
    assert min(np.abs(one - other).max() for one, other in matrices) > 0.01


def test_the_best_epoch_is_kept_and_patience_ends_the_training(steps):
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.1])
    kept = []

    def score(model):
        kept.append(weights(model))
        return next(scores)

    training = replace(QUICK, epochs=50, evaluate_every=1, patience=3)
    model, outcome = train_once(steps, Settings("gru", SIZE, training=training), 0, score=score)
    assert (outcome.best_epoch, outcome.epochs) == (2, 5)
    for one, other in zip(weights(model), kept[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_metrics_of_a_trained_model_match_naive_ones(steps, model):
    history = steps.sequences
    table, width = np.asarray(model.catalogue()), LENGTH
    expected = []
    for user in range(USERS):
        items = history.item[history.offsets[user] : history.offsets[user + 1]]
        past, target = items[:-1][-width:], items[-1]
        batch = {name: np.zeros((1, width), np.int32) for name in ("item", "segment", "position", "time", "asked")}
        batch["item"][0, : len(past)], batch["segment"][0, : len(past)] = past, 1
        batch["position"][0, : len(past)] = np.arange(len(past))
        scores = table @ model.states(batch)[0, len(past) - 1]
        expected.append(1 + int((np.delete(scores, target - 1) >= scores[target - 1]).sum()))
    found = ranks(ModelScorer(model), history, steps.test, mask_seen=False)
    np.testing.assert_array_equal(found, expected)
    gains = [1 / np.log2(rank + 1) if rank <= 10 else 0 for rank in expected]
    assert rank_metrics(found)["ndcg@10"].mean() == pytest.approx(np.mean(gains))
