"""Events that come one by one, in any order and more than once, make the lists that the batch makes."""

import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from events.contract import EVENT_SCHEMA
from features.live.push import live_event
from features.online_stores.rows import LISTS, LiveEvent, merge
from features.online_stores.sqlite_rows import SqliteRows
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


@given(events_of_ann, st.integers(0, 9), st.randoms(use_true_random=False), st.lists(st.integers(1, 3), max_size=9))
@settings(max_examples=80, deadline=None)
def test_any_order_any_batches_any_repeats(
    said: list[dict[str, Any]], loaded: int, chance: Any, cuts: list[int]
) -> None:
    """Some are loaded as lists, the others come live; loaded ones come again, too."""
    events = [
        {**event, "event_id": f"e{n}", "user_id": "ann", "ingested_at": event["event_time"]}
        for n, event in enumerate(said)
    ]
    schema = {name: EVENT_SCHEMA[name] for name in events[0]}
    frame = pl.DataFrame(events, schema)
    until = START + timedelta(days=1)
    batch = recent_lists(frame, N, until).select(*LISTS).row(0)
    before = recent_lists(frame.head(loaded), N, until).select(*LISTS).rows()
    coming = [*events, *chance.sample(events, len(events) // 2)]
    chance.shuffle(coming)
    with tempfile.TemporaryDirectory() as folder, closing(SqliteRows(Path(folder) / "rows.db")) as rows:
        rows.finish({"last_n": N})
        while coming:
            size = cuts.pop() if cuts else 2
            part, coming = coming[:size], coming[size:]
            rows.append(map(live_event, part))
        live = list(rows.live())
    assert len(live) <= N
    assert merge(tuple(LISTS), before[0] if before else (None,) * len(LISTS), live, N) == batch


def test_of_two_with_one_id_the_loaded_one_stays_else_the_earliest() -> None:
    first = LiveEvent("ann", 1, 1, "a", "bread", "view_item", 0.0, 0.0, "s")
    later = first._replace(item_id="milk", time=5)
    as_lists = tuple([getattr(first, field)] for field in LISTS.values())
    assert merge(tuple(LISTS), as_lists, [later], 3) == as_lists
    assert merge(tuple(LISTS), (None,) * len(LISTS), [later, first], 3) == as_lists
