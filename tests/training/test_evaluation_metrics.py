import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from shoplens.errors import ModelError
from training.metrics import (
    purchase_metrics,
    ranking_metrics,
    weighted_purchase_metrics,
)
from training.models.ranking import top_items
from training.resamples import Resamples, intervals, paired_difference

LABEL = np.array([1, 0, 1, 0, 1], dtype=np.float32)
SCORE = np.array([0.9, 0.8, 0.7, 0.4, 0.2], dtype=np.float32)


def test_purchase_metrics_equal_a_hand_calculation() -> None:
    found = purchase_metrics(LABEL, SCORE, threshold=0.5)
    # called: rows 0, 1, 2; of them rows 0 and 2 bought; row 4 bought and is missed; row 3 is rightly left
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(3 / 5)
    # of 3 * 2 pairs, those in the right order: 0>1, 0>3, 2>3 -> 3 of 6
    assert found["roc_auc"] == pytest.approx(3 / 6)
    # recall steps of 1/3 at precision 1/1, 2/3, 3/5
    assert found["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    losses = [0.9, 0.2, 0.7, 0.6, 0.2]
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, losses)) / 5, rel=1e-5)
    assert found["brier"] == pytest.approx((0.1**2 + 0.8**2 + 0.3**2 + 0.4**2 + 0.8**2) / 5, rel=1e-5)
    assert found["calibration_error"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.4 + 0.8) / 5, rel=1e-5)  # a bin per row


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_metrics_agree_with_scikit_learn_with_and_without_ties(rows: list[tuple[bool, int]]) -> None:
    label = np.array([row[0] for row in rows], dtype=np.float32)
    score = np.array([row[1] / 5 for row in rows], dtype=np.float32)
    if label.min() == label.max():
        return
    found = purchase_metrics(label, score)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(label, score))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(label, score))
    assert found["f1"] == pytest.approx(reference.f1_score(label, score >= 0.5, zero_division=0))


def test_a_weight_repeats_a_row() -> None:
    weight = np.array([[1, 1, 1, 1, 1], [2, 1, 0, 3, 1]], dtype=np.int32)
    found = weighted_purchase_metrics(LABEL, SCORE, weight, 0.5)
    repeated = np.repeat(np.arange(5), weight[1])
    expected = purchase_metrics(LABEL[repeated], SCORE[repeated], 0.5)
    del expected["calibration_error"]  # its bins are those of the five rows
    for name, value in expected.items():
        assert found[name][1] == pytest.approx(value), name


def test_unequal_lengths_are_rejected() -> None:
    with pytest.raises(ModelError, match="received 5 and 4"):
        purchase_metrics(LABEL, SCORE[:4])


def test_ranking_metrics_equal_a_hand_calculation() -> None:
    ranked = np.arange(2, 22, dtype=np.int32)[None, :].repeat(2, axis=0)  # items 2 … 21, best first
    # row 0 wants the 1st, the 3rd and one that is not ranked; row 1 wants only the 12th
    found = ranking_metrics(ranked, [np.array([2, 4, 99]), np.array([13])])
    best = 1 + 1 / math.log2(3) + 1 / 2
    assert found["hr@10"].tolist() == [1, 0]
    assert found["ndcg@10"].tolist() == pytest.approx([(1 + 1 / 2) / best, 0])
    assert found["recall@10"].tolist() == pytest.approx([2 / 3, 0])
    assert found["recall@20"].tolist() == pytest.approx([2 / 3, 1])


def test_ties_go_to_the_lower_index() -> None:
    scores = np.array([[-np.inf, -np.inf, 1, 5, 1, 1, 0]], dtype=np.float32)
    assert top_items(scores, 3).items.tolist() == [[3, 2, 4]]


def test_all_rows_of_a_user_are_resampled_together() -> None:
    user = np.array(["a", "a", "b", "c", "c", "c"])
    weight = np.concatenate(list(Resamples(user, 200, seed=1).batches()))
    assert weight.shape == (201, 6)
    assert (weight[0] == 1).all()
    assert (weight[:, 0] == weight[:, 1]).all()
    assert (weight[:, 3] == weight[:, 5]).all()
    # three users are drawn each time
    assert (weight[:, 0] + weight[:, 2] + weight[:, 3] == 3).all()


def test_resamples_of_a_million_rows_stay_small() -> None:
    """All 501 weightings at once would take 2 GB."""
    resamples = Resamples(np.arange(1_000_000), 500, seed=1)
    tracemalloc.start()
    batches = resamples.batches()
    for _ in range(3):
        next(batches)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000_000


def test_the_size_of_a_batch_changes_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    resamples = Resamples(np.array(["a", "b", "b", "c", "d"]), 9, seed=1)
    at_once = np.concatenate(list(resamples.batches()))
    monkeypatch.setattr("training.resamples._CELLS", 10)
    batches = list(resamples.batches())
    assert [len(batch) for batch in batches] == [1, 2, 2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), at_once)


def test_the_interval_of_a_mean_agrees_with_theory() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    resamples = Resamples(np.arange(4000), 400, seed=1)
    (found,) = intervals({"mean": resamples.mean(values)}).values()
    half = 1.96 * values.std() / math.sqrt(4000)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.15)
    assert found.value - found.low == pytest.approx(half, rel=0.15)


def test_a_paired_difference_has_a_narrower_interval() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(size=2000)
    resamples = Resamples(np.arange(2000), 300, seed=1)
    new, old = (resamples.mean(hard + shift) for shift in (0.05, 0.0))
    found = paired_difference(new, old)
    assert found.low == pytest.approx(0.05)
    alone = intervals({"new": new})["new"]
    assert alone.low < 0.05 < alone.high


def test_a_catalogue_with_fewer_than_twenty_items_is_ranked_completely() -> None:
    scores = np.array([[-np.inf, -np.inf, 0.1, 0.3, 0.3]], dtype=np.float32)
    ranked = top_items(scores, 20).items
    assert ranked.tolist() == [[3, 4, 2]], "of equal scores the lower index; 0 and 1 are no items"
    found = ranking_metrics(ranked, [np.array([2], dtype=np.int32)])
    assert found["recall@20"].tolist() == [1.0]
    assert found["ndcg@10"][0] == pytest.approx(1 / np.log2(4))  # third place


def test_repeats_and_new_items_are_measured_apart(make) -> None:
    from dataclasses import replace

    from training.evaluate import _recall_by_part, target_parts

    rows = make("next_item", 2, 1)
    items = rows.inputs.item_tables
    items.values[:] = 1
    history = rows.inputs.history
    seen = [set(history.log.item_index[b:e].tolist()) for b, e in zip(history.begin, history.end, strict=True)]
    new = [sorted(set(range(2, 14)) - one)[:2] for one in seen]
    old = [sorted(one)[0] for one in seen]
    targets = [np.array([old[0], *new[0]], dtype=np.int32), np.array(new[1][:1], dtype=np.int32)]
    ranked = np.array([[old[0], new[0][0]], [old[1], old[1]]], dtype=np.int32)
    resamples = Resamples(np.array(["ann", "bob"]), 50, seed=1)
    ann, bob = np.concatenate(list(resamples.batches())).T
    found = _recall_by_part(ranked, replace(rows, targets=targets), resamples)
    assert found["recall@20_repeat"].tolist() == (ann > 0).tolist(), "only the first row has a repeated target"
    assert found["recall@20_explore"].tolist() == (ann * 0.5 / (ann + bob)).tolist(), "one of two, and none of one"
    assert "recall@20_unseen" not in found, "somebody took every item before"

    items.values[:, [*new[0], old[1]]] = 0  # Bob's own event is newer than the table
    rows = replace(rows, targets=[targets[0], np.array([old[1]])])
    assert [one.tolist() for one in target_parts(rows)["unseen"]] == [[False, True, True], [False]]
    unseen = _recall_by_part(ranked, rows, resamples)["recall@20_unseen"]
    assert unseen.tolist() == (0.5 * (ann > 0)).tolist(), "one of Ann's two; Bob has none"
