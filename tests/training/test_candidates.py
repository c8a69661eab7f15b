"""What the listwise ranker sees: memory, rules and rankings, by numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.histories import EventLog, Histories, UserLog
from features.recent import EVENT_CODES
from training.models.candidates import CandidateMaker
from training.models.memory import Describer, Rhythm, Visits, memory_score
from training.models.neighbours import WINDOW, Neighbours
from training.models.ranking import Ranking, best_first, ranked_pairs, top_pairs

BUY = EVENT_CODES["purchase"]
VIEW = EVENT_CODES["view_item"]
NOW = np.datetime64("2024-02-01", "us")
SIZE = 14


def log_of(events: list[tuple[int, int, float, int, int]]) -> EventLog:
    """A log of (item, code, days before NOW, pieces, order)."""
    item, code, days, pieces, order = zip(*events, strict=True)
    times = NOW - np.round(np.array(days) * 86_400_000_000).astype("timedelta64[us]")
    quantity = np.array(pieces, dtype=np.float32)
    columns = (np.array(item, np.int32), np.array(code, np.int8), times, times, quantity, quantity * 2)
    return EventLog(*columns, np.array(order, np.int32))


def one_row(events: list[tuple[int, int, float, int, int]]) -> Visits:
    log = log_of(events)
    return Visits.read(Histories(log, np.array([0]), np.array([len(log)])), np.array([NOW]))


def test_the_rhythm_of_an_item_by_hand() -> None:
    """Item 2 on days 30, 20 and 4 (two lines of one order); item 3 on day 10; two visits after item 3."""
    visits = one_row(
        [
            (2, BUY, 30, 1, 1),
            (2, BUY, 20, 1, 2),
            (3, VIEW, 10, 0, 3),
            (2, BUY, 4, 1, 4),
            (2, BUY, 4, 2, 4),
            (0, VIEW, 2, 0, 5),
        ]
    )
    rhythm = Rhythm.of(visits, visits.item, SIZE)
    assert rhythm.key.tolist() == [2, 3]
    assert rhythm.count.tolist() == [3, 1], "the second line of an order is the same purchase"
    assert rhythm.decayed[0, 3] == pytest.approx(sum(np.exp(-d / 30) for d in (30, 20, 4)))
    assert (rhythm.first_age.tolist(), rhythm.last_age.tolist()) == ([30, 10], [4, 10])
    assert rhythm.gap_mean[0] == pytest.approx((np.log(10.001) + np.log(16.001)) / 2)
    assert rhythm.gap_deviation[0] == pytest.approx((np.log(16.001) - np.log(10.001)) / 2)
    assert np.isnan(rhythm.gap_mean[1])
    assert rhythm.last_basket.tolist() == [0, 1], "visits with an item count"
    assert rhythm.back.tolist() == [1, 2], "of the two lines of an order, the first counts"
    assert visits.last_age.tolist() == [4]
    assert visits.mean_gap[0] == pytest.approx((30 - 4) / 3)
    assert memory_score(rhythm)[1] == pytest.approx(np.exp(-10 / 90) + 0.3 * np.exp(-10 / 365))


def test_a_purchase_and_its_refund_are_not_two() -> None:
    refund, removed = EVENT_CODES["refund"], EVENT_CODES["remove_from_cart"]
    visits = one_row([(2, BUY, 9, 1, 1), (3, BUY, 6, 1, 2), (2, refund, 4, 1, 3), (3, removed, 2, 0, 4)])
    rhythm = Rhythm.of(visits, visits.item, SIZE)
    assert (rhythm.count.tolist(), rhythm.last_age.tolist()) == ([1, 1], [9, 6])


def test_a_person_who_never_came_has_numbers_but_no_memory() -> None:
    empty = Visits.read(Histories(log_of([(2, BUY, 1, 1, 1)]), np.array([0]), np.array([0])), np.array([NOW]))
    own = Rhythm.of(empty, empty.item, SIZE)
    codes = {f"category_{k}_code": np.ones(SIZE, dtype=np.int64) for k in (1, 2, 3)}
    describer = Describer(codes | {"brand_code": np.zeros(SIZE, dtype=np.int64)}, SIZE)
    found = describer.describe(empty, own, np.array([0, 0]), np.array([2, 3]), np.zeros((2, 12)))
    assert np.isfinite(found).all()
    assert found[:, describer.names.index("known")].tolist() == [0, 0]


def test_rules_by_hand_and_never_from_later_events() -> None:
    """Ann: 2, 3, 3, 4; Bob: 2, 4. A rule weighs 1/distance over the count of its first item; repeats count once."""
    log = log_of(
        [
            (2, VIEW, 9, 0, 1),
            (3, VIEW, 8, 0, 1),
            (3, VIEW, 7, 0, 1),
            (4, VIEW, 6, 0, 1),
            (2, VIEW, 5, 0, 2),
            (4, VIEW, 4, 0, 2),
        ]
    )
    users = UserLog(pl.DataFrame({"user_id": ["ann", "bob"], "begin": [0, 4], "end": [4, 6]}), log)
    rules = Neighbours.count(users, SIZE, NOW).rules.todense()
    assert rules[2, 3] == pytest.approx(1 / 2)  # one of two events with item 2
    assert rules[2, 4] == pytest.approx((1 / 2 + 1) / 2)  # at distance 2 for Ann, 1 for Bob
    assert rules[3, 4] == pytest.approx(1)
    assert rules[4].sum() == 0
    similar = Neighbours.count(users, SIZE, NOW).similar.todense()
    assert similar[4, 2] == similar[2, 4] == pytest.approx(1.5 / 2)
    early = Neighbours.count(users, SIZE, NOW - np.timedelta64(5, "D")).rules.todense()
    assert early[2, 4] == pytest.approx(1 / 2), "Bob's events are not known yet"
    assert WINDOW >= 2


def test_following_weighs_the_latest_event_most() -> None:
    log = log_of([(2, VIEW, 9, 0, 1), (3, VIEW, 8, 0, 1), (4, VIEW, 7, 0, 1)])
    users = UserLog(pl.DataFrame({"user_id": ["ann"], "begin": [0], "end": [3]}), log)
    neighbours = Neighbours.count(users, SIZE, NOW)
    scores = neighbours.follow(Histories(log, np.array([0]), np.array([2])))[0].todense()[0]
    assert scores[4] == pytest.approx(1 * 1 + 1 / 2 * 1 / 2), "after 3 directly, after 2 at distance 2"
    assert scores[3] == pytest.approx(1 / 2 * 1)


def test_pairs_are_ranked_with_ties_to_the_lower_index_and_filled() -> None:
    row, item = np.array([0, 0, 0, 0, 2]), np.array([5, 2, 5, 3, 4])
    found = top_pairs(row, item, np.array([1.0, 2.0, 1.0, 0.5, 1.0]), 3, SIZE, 2)
    assert found.items.tolist() == [[2, 5], [0, 0], [4, 0]]
    others = np.array([[2, 5, 6], [7, 8, 9], [4, 7, 8]], dtype=np.int32)
    full = found.filled(others)
    assert full.items.tolist() == [[2, 5], [7, 8], [4, 7]]
    assert (np.diff(full.scores, axis=1) <= 0).all()
    assert best_first(np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 2.0, 2.0])).tolist() == [1, 0, 2, 3]
    one = ranked_pairs(np.array([0]), np.array([3]), np.array([-4.0]), 1, 3)
    assert one.items.tolist() == [[3, 0, 0]]
    assert isinstance(full, Ranking)


def test_a_row_is_described_alone_as_among_others(rows, recipe, catalogue) -> None:
    found = rows("next_item")
    maker = CandidateMaker(catalogue, recipe("next_item").candidates)
    rules = Neighbours.count(found.train.full_log, catalogue.size, found.test.inputs.now.min())
    inputs = found.test.inputs
    together = maker.make(inputs, rules)
    for row in (0, 17, 99):
        alone = maker.make(inputs.take(slice(row, row + 1)), rules)
        mine = together.row == row
        np.testing.assert_array_equal(alone.item, together.item[mine])
        np.testing.assert_allclose(alone.features, together.features[mine], rtol=1e-6)
    assert together.features.shape[1] == len(maker.names) == len(set(maker.names))


def test_what_happens_after_a_row_changes_nothing(rows, recipe, catalogue) -> None:
    found = rows("next_item").test.inputs
    maker = CandidateMaker(catalogue, recipe("next_item").candidates)
    before = maker.make(found, None).features
    shorter = replace(found, history=found.history.last(3))
    longer = replace(found, history=replace(shorter.history, begin=found.history.begin))
    np.testing.assert_array_equal(maker.make(longer, None).features, before)
    assert maker.make(shorter, None).features.shape != before.shape or not np.array_equal(
        maker.make(shorter, None).features, before
    )
