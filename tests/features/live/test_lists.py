"""Events that come one by one, in any order and more than once, make the lists that the batch makes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from events.contract import EVENT_SCHEMA
from features.live.lists import RecentRow, joined, lists_of, row_of, rows_of
from features.recent import recent_lists

START = datetime(2024, 1, 1, tzinfo=UTC)
N = 4

events_of_ann = st.lists(
    st.fixed_dictionaries(
        {
            "event_name": st.sampled_from(["view_item", "purchase"]),
            "event_time": st.integers(0, 5).map(lambda n: START + timedelta(seconds=n)),
            "item_id": st.sampled_from(["bread", None]),
            "quantity": st.sampled_from([None, 1.0, 0.1]),
            "amount": st.sampled_from([None, 2.5, 1 / 3]),
            "order_id": st.sampled_from([None, "o1"]),
            "session_id": st.sampled_from([None, "s1"]),
        }
    ),
    min_size=1,
    max_size=9,
)


@given(events_of_ann, st.randoms(use_true_random=False), st.lists(st.integers(1, 3), max_size=9))
@settings(max_examples=80, deadline=None)
def test_any_order_any_batches_any_repeats(said: list[dict[str, Any]], chance: Any, cuts: list[int]) -> None:
    events = [
        {**event, "event_id": f"e{n}", "user_id": "ann", "ingested_at": event["event_time"]}
        for n, event in enumerate(said)
    ]
    frame = pl.DataFrame(events, schema={name: EVENT_SCHEMA[name] for name in events[0]}, infer_schema_length=None)
    batch = recent_lists(frame, N, START + timedelta(days=1)).row(0, named=True)
    coming = [*events, *chance.sample(events, len(events) // 2)]
    chance.shuffle(coming)
    held: list[RecentRow] = []
    while coming:
        size = cuts.pop() if cuts else 2
        part, coming = coming[:size], coming[size:]
        held = rows_of(lists_of(joined(held, map(row_of, part), N)))
    assert lists_of(held) == {name: value for name, value in batch.items() if name.startswith("recent_")}


def test_of_two_with_one_id_the_first_stays() -> None:
    first = RecentRow(1, "a", "bread", "view_item", 0.0, 0.0, "s")
    later = first._replace(item_id="milk", time=5)
    assert joined([first], [later], 3) == [first]
    assert joined([], [first, later], 3) == [first]


def test_nothing_held_and_nothing_new() -> None:
    assert joined([], [], 3) == []
    assert rows_of(dict.fromkeys(lists_of([]), None)) == []
