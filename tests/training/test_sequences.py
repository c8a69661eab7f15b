"""Readers, windows and their packing, protocols and ranks, with numbers worked out by hand."""

import gzip

import numpy as np
import pytest

from shoplens.errors import SettingsError, SourceError
from training.benchmark import read_split
from training.data.readers import read_interactions, read_item_lists
from training.data.sequences import Sequences
from training.data.windows import Packing, cut, packed_rows
from training.protocols.ranks import rank_metrics, ranks, repeats
from training.protocols.splits import leave_one_out, split_sessions


def test_times_are_sorted_and_ties_keep_the_order_of_the_file(tmp_path):
    path = tmp_path / "log.txt.gz"
    with gzip.open(path, "wt") as stream:
        stream.write("bob shoe 20\nann hat 5\nbob sock 10\nbob hat 20\nann shoe 5\n")
    found = read_interactions(path)
    assert found.names.tolist() == ["shoe", "hat", "sock"]
    assert found.offsets.tolist() == [0, 3, 5]  # bob came first
    assert found.item.tolist() == [3, 1, 2, 2, 1]
    assert found.time.tolist() == [10, 20, 20, 5, 5]
    assert found.seconds(np.array([0, 1, 3])).tolist() == [0, 10, -5]


def test_without_times_the_order_of_the_file_holds(tmp_path):
    (tmp_path / "log.tsv").write_text("2\t7\n1\t7\n2\t9\n1\t8\n")
    found = read_interactions(tmp_path / "log.tsv")
    assert (found.offsets.tolist(), found.item.tolist(), found.time) == ([0, 2, 4], [1, 2, 1, 3], None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b c d\n", "the first has 4 columns: 'a b c d'"),
        ("", "the first has 1 columns"),
        ("1 2 3\n1 2 soon\n", "times as numbers"),
    ],
)
def test_a_file_of_another_kind_is_rejected(tmp_path, content, message):
    (tmp_path / "log.txt").write_text(content)
    with pytest.raises(SourceError, match=message):
        read_interactions(tmp_path / "log.txt")


def test_item_lists_share_the_numbers_of_the_training_file(tmp_path):
    (tmp_path / "train.jsonl").write_text('["a", "b"]\n\n{"items": ["b", 3]}\n')
    (tmp_path / "test.jsonl").write_text('["3", "new", "a"]\n')
    train = read_item_lists(tmp_path / "train.jsonl")
    test = read_item_lists(tmp_path / "test.jsonl", train.names)
    assert (train.offsets.tolist(), train.item.tolist()) == ([0, 2, 4], [1, 2, 2, 3])
    assert (test.item.tolist(), test.items) == ([3, 4, 1], 4)


@pytest.mark.parametrize("line", ["not json", "5", '{"item": []}'])
def test_a_line_that_is_no_list_is_rejected_with_its_number(tmp_path, line):
    (tmp_path / "s.jsonl").write_text(f"[1]\n{line}\n")
    with pytest.raises(SourceError, match=r"line 2: must be"):
        read_item_lists(tmp_path / "s.jsonl")


def test_saved_sequences_are_memory_mapped(tmp_path):
    found = Sequences(np.array([0, 2]), np.array([1, 2], np.int32), np.array([5, 6]), 2, np.array(["a", "b"]))
    found.save(tmp_path / "s")
    back = Sequences.open(tmp_path / "s")
    assert isinstance(back.item, np.memmap)
    assert (back.item.tolist(), back.time.tolist(), back.names.tolist(), back.items) == ([1, 2], [5, 6], ["a", "b"], 2)
    with pytest.raises(SourceError, match="must hold saved sequences"):
        Sequences.open(tmp_path)


def test_the_first_window_is_the_short_one():
    windows = cut(np.array([0, 10, 20, 30]), np.array([8, 14, 21, 30]), 3)
    # 7 inputs are 1 + 3 + 3; 3 inputs are one window; a lone event and an empty history have none
    assert windows.begin.tolist() == [0, 1, 4, 10]
    assert windows.length.tolist() == [1, 3, 3, 3]


def world(users=40, items=9, seed=0):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 30, users))])
    item = random.integers(1, items + 1, offsets[-1]).astype(np.int32)
    return Sequences(offsets, item, np.arange(offsets[-1]) * 10, items)


def test_an_epoch_has_every_target_once_and_each_window_its_own_segment():
    sequences = world()
    begin, end = sequences.offsets[:-1], sequences.offsets[1:]
    batches = list(Packing(sequences, begin, end, 8, 3).batches(1, 2))
    assert Packing(sequences, begin, end, 8, 3).count(1, 2) == len(batches)
    assert all(batch["item"].shape == (3, 8) for batch in batches)
    event = np.concatenate([batch["event"][batch["segment"] > 0] for batch in batches])
    wanted = [k for a, b in zip(begin, end, strict=True) for k in range(a + 1, b)]
    assert sorted(event.tolist()) == wanted
    for batch in batches:
        for row in range(3):
            for segment in range(1, batch["segment"][row].max() + 1):
                place = np.flatnonzero(batch["segment"][row] == segment)
                events = batch["event"][row, place]
                assert place.tolist() == list(range(place[0], place[0] + len(place)))
                assert events.tolist() == list(range(events[0], events[0] + len(place)))
                assert np.searchsorted(end, events[0], side="right") == np.searchsorted(end, events[-1], side="right")
                assert batch["position"][row, place].tolist() == list(range(len(place)))
                assert batch["item"][row, place].tolist() == sequences.item[events - 1].tolist()
                assert batch["target"][row, place].tolist() == sequences.item[events].tolist()
                assert (batch["asked"] - batch["time"])[row, place].tolist() == [10] * len(place)
    filled = np.mean([batch["segment"] > 0 for batch in batches[:-1]])
    assert filled > 0.9


def test_batches_depend_on_the_seed_alone_and_can_start_anywhere():
    sequences = world()
    packing = Packing(sequences, sequences.offsets[:-1], sequences.offsets[1:], 8, 3)
    first, again, other = (list(packing.batches(*seed)) for seed in ((0, 1), (0, 1), (0, 2)))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["item"], two["item"])
    assert any((one["item"] != two["item"]).any() for one, two in zip(first, other, strict=False))
    np.testing.assert_array_equal(next(packing.batches(0, 1, skip=2))["item"], first[2]["item"])


def test_context_that_does_not_count_has_no_target():
    sequences = Sequences(np.array([0, 5]), np.array([1, 2, 3, 4, 5], np.int32), None, 5)
    windows = cut(np.array([0]), np.array([5]), 4)
    windows.first[:] = 3
    batch = next(packed_rows(sequences, windows, 4, 1))
    assert batch["item"].tolist() == [[1, 2, 3, 4]]
    assert batch["target"].tolist() == [[0, 0, 0, 5]]


def test_leave_one_out():
    split = leave_one_out(Sequences(np.array([0, 4, 6]), np.array([1, 2, 3, 4, 1, 2], np.int32), None, 4))
    assert (split.begin.tolist(), split.end.tolist()) == ([0, 4], [2, 6])
    assert (split.validation.target.tolist(), split.test.target.tolist()) == ([2], [3])


def test_sessions_are_split_in_order_and_unknown_targets_are_left_out():
    lists = [[1, 2]] * 18 + [[2, 1]] + [[1, 3, 2]]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    split = split_sessions(Sequences(offsets, np.concatenate(lists).astype(np.int32), None, 3), 19)
    assert len(split.begin) == 17
    assert split.validation.target.tolist() == [35, 37]
    assert split.test.target.tolist() == [40]  # item 3 was never learned


class Fixed:
    """Scores 5, 4, 3, 3 for the items 1 to 4."""

    def score(self, sequences, queries):
        yield np.arange(len(queries)), np.tile(np.array([5, 4, 3, 3], np.float32), (len(queries), 1))


def test_ranks_by_hand():
    sequences = Sequences(np.array([0, 4, 8]), np.array([1, 2, 3, 4, 4, 4, 1, 1], np.int32), None, 4)
    split = leave_one_out(sequences)
    assert ranks(Fixed(), sequences, split.test, mask_seen=False).tolist() == [4, 1]  # a tie counts against the model
    assert ranks(Fixed(), sequences, split.test, mask_seen=True).tolist() == [1, 4]  # 4 is all that is left; 1 was seen
    assert repeats(sequences, split.test).tolist() == [False, True]


def test_metrics_of_a_rank_by_hand():
    found = rank_metrics(np.array([1, 3, 11, 21]))
    assert found["hr@10"].tolist() == [1, 1, 0, 0]
    assert found["ndcg@10"].tolist() == [1, 0.5, 0, 0]
    np.testing.assert_allclose(found["mrr@20"], [1, 1 / 3, 1 / 11, 0])


def test_a_test_file_belongs_to_sessions(tmp_path):
    with pytest.raises(SettingsError, match="--test: leave-one-out tests on the last event"):
        read_split(tmp_path / "a", "leave-one-out", tmp_path / "b")
