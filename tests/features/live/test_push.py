"""Collected events in the online store: at once, in place, once; and again when the store was made anew."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic_core import to_json

from events.collector.followers import Following
from events.collector.log import EventLog, Record
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.lake import append_events
from features.catalogue import Catalogue
from features.live.push import OnlinePush
from features.materialize import materialize
from features.online import OnlineReader
from features.store import places
from shoplens.errors import StoreUnavailableError
from tests.features.conftest import STORY
from tests.features.conftest import log as shop_log

pytestmark = pytest.mark.stores


def collected(event_id: str, when: str, item: str, user: str | None = "ann", came: str | None = None) -> dict[str, Any]:
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC)
    arrival = moment if came is None else datetime.fromisoformat(came).replace(tzinfo=UTC)
    who = {"anonymous_id": "visitor"} if user is None else {"user_id": user}
    said = {"event_id": event_id, "event_time": moment, "ingested_at": arrival, "event_name": "view_item"}
    return {**said, **who, "item_id": item, "session_id": "s9"}


def records(*events: dict[str, Any]) -> list[Record]:
    return [Record(place, to_json(event)) for place, event in enumerate(events)]


@pytest.fixture
def push(story: Any) -> Iterator[OnlinePush]:
    materialize(story.settings)
    made = OnlinePush(story.settings, story.settings.lake_dir)
    assert made.rewind()
    yield made
    made.close()


def items_of(story: Any, user: str = "ann") -> list[str]:
    catalogue = Catalogue.load(story.features_dir / "catalogue.parquet")
    state = OnlineReader(story.settings).read(user, catalogue)
    assert state is not None
    return [catalogue.item_id(int(index)) if index > 1 else "?" for index in state.history.log.item_index]


def test_events_join_the_lists_in_their_place_and_once(story: Any, push: OnlinePush) -> None:
    assert items_of(story) == ["bread", "milk", "pen", "bread"]
    late = collected("x1", "2024-01-05 10:00", "ink", came="2024-01-08 09:00")
    newest = collected("x2", "2024-01-08 10:00", "milk")
    push.follow(records(late, newest, collected("x3", "2024-01-08 10:01", "pen", user=None)))
    # five are kept: the first bread goes, ink comes between pen and bread, where it happened
    assert items_of(story) == ["milk", "pen", "ink", "bread", "milk"]
    push.follow(records(newest, late))
    assert items_of(story) == ["milk", "pen", "ink", "bread", "milk"]
    push.follow(records(collected("y1", "2024-01-08 10:02", "pen", user="new")))
    assert items_of(story, "new") == ["pen"]


def test_who_comes_back_after_long_has_the_whole_history(new_shop: Callable[..., Any]) -> None:
    shop = new_shop("back", last_n=5, active_days=3)
    shop.put(shop_log(STORY), start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 20, tzinfo=UTC))
    shop.build()
    materialize(shop.settings)
    catalogue = Catalogue.load(shop.features_dir / "catalogue.parquet")
    at_rest = OnlineReader(shop.settings).read("ann", catalogue)
    assert at_rest is None or not at_rest.history.lengths.any()  # expired, and not served as if it were of today
    with closing(OnlinePush(shop.settings, shop.settings.lake_dir)) as push:
        assert push.rewind()
        push.follow(records(collected("x1", "2024-01-20 10:00", "ink")))
    assert items_of(shop) == ["bread", "milk", "pen", "bread", "ink"]


def test_the_data_s_clock_goes_on_with_what_is_collected_and_never_back(story: Any, push: OnlinePush) -> None:
    reader = OnlineReader(story.settings)
    assert reader.now() == np.datetime64("2024-01-08T00:00:00", "us")
    push.follow(records(collected("x2", "2024-01-08 10:00", "milk")))
    push.follow(records(collected("x1", "2024-01-07 10:00", "milk")))
    assert reader.now() == np.datetime64("2024-01-08T10:00:00.000001", "us")
    places(story.settings).live.write_text('{"lineage": "another", "high_water": "2030-01-01T00:00:00+00:00"}')
    assert reader.now() == np.datetime64("2024-01-08T00:00:00", "us"), "the clock of other data"


def test_a_batch_that_knows_less_takes_nothing_back(story: Any, push: OnlinePush) -> None:
    """A late event is pushed; then the same batch is loaded again, whose list ends with the same event."""
    push.follow(records(collected("x1", "2024-01-05 10:00", "ink", came="2024-01-08 09:00")))
    before = items_of(story)
    assert "ink" in before
    places(story.settings).state.unlink()  # as if nothing had been loaded
    assert materialize(story.settings).changed
    assert items_of(story) == before


def _lake(story: Any, *events: dict[str, Any]) -> Path:
    frame = pl.DataFrame({n: [event.get(n) for event in events] for n in EVENT_SCHEMA}, schema=EVENT_SCHEMA)
    lake: Path = story.settings.lake_dir
    append_events(lake, "user", frame, pl.DataFrame(schema=QUARANTINE_SCHEMA), "b1")
    return lake


def test_a_store_made_anew_gets_what_was_collected_since_the_data(story: Any, push: OnlinePush) -> None:
    """One event has left the log for the lake, one is still in the log: both are there again."""
    old, gone, kept = (
        collected("o1", "2024-01-06 10:00", "pen"),  # before the data's end: the batch speaks for it
        collected("x1", "2024-01-08 10:00", "ink"),
        collected("x2", "2024-01-08 11:00", "milk"),
    )
    lake = _lake(story, old, gone)
    push.follow(records(gone, kept))
    home = story.settings.live_dir
    places(story.settings).online.resolve().unlink()
    story.put(shop_log(STORY), end=datetime(2024, 1, 7, 23, tzinfo=UTC))
    story.build()
    materialize(story.settings)  # an earlier end: another file
    assert items_of(story) == ["bread", "milk", "pen", "bread"]
    with EventLog(home / "log") as log:
        log.append([to_json(kept)])
        again = OnlinePush(story.settings, lake)
        following = Following(log, "push", again.follow, home, again.rewind)
        following.close()
        assert following.position == log.end
        assert not again.rewind()
        again.close()
    assert items_of(story) == ["milk", "pen", "bread", "ink", "milk"]


def test_a_collector_killed_while_it_rewinds_still_fills_the_new_store(story: Any) -> None:
    """It had processed the log for another store; it is killed before the rewound position is on disk."""
    materialize(story.settings)
    home, kept = story.settings.live_dir, collected("x1", "2024-01-08 10:00", "ink")
    with EventLog(home / "log") as log:
        log.append([to_json(kept)])
        Following(log, "push", lambda records: None, home).close()  # the position of the other store
        with closing(OnlinePush(story.settings, story.settings.lake_dir)) as killed:
            assert killed.rewind()
        with closing(OnlinePush(story.settings, story.settings.lake_dir)) as again:
            following = Following(log, "push", again.follow, home, again.rewind)
            following.close()
            assert following.position == log.end
    assert items_of(story)[-1] == "ink"


def test_without_a_store_the_log_waits(story: Any, tmp_path: Path) -> None:
    push = OnlinePush(story.settings, story.settings.lake_dir)
    with pytest.raises(StoreUnavailableError, match="run `shoplens materialize`"):
        push.rewind()
    with EventLog(tmp_path / "log") as log:
        log.append([to_json(collected("x1", "2024-01-08 10:00", "ink"))])
        following = Following(log, "push", push.follow, tmp_path, push.rewind)
        _until(lambda: following.problem is not None)
        assert following.position == 0
        materialize(story.settings)
        _until(lambda: following.position == log.end)
        assert following.problem is None
        following.close()
    assert items_of(story)[-1] == "ink"


def _until(holds: Any) -> None:
    import time

    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class _Failing:
    """A follower that fails at first, as a store that is away does."""

    def __init__(self) -> None:
        self.tries, self.seen = 0, [b""]

    def follow(self, records: Sequence[Record]) -> None:
        self.tries += 1
        if self.tries < 3:
            raise StoreUnavailableError("away")
        self.seen += [record.content for record in records]


def test_a_follower_moves_on_only_after_the_effect(tmp_path: Path) -> None:
    failing = _Failing()
    with EventLog(tmp_path / "log") as log:
        log.append([b"one", b"two"])
        following = Following(log, "failing", failing.follow, tmp_path)
        _until(lambda: following.position == log.end)
        following.close()
        assert failing.seen[1:] == [b"one", b"two"]
        log.append([b"three"])
        later = Following(log, "failing", failing.follow, tmp_path)
        _until(lambda: later.position == log.end)
        later.close()
        assert failing.seen[1:] == [b"one", b"two", b"three"]
        (tmp_path / "failing.json").write_text("{torn")  # a place that cannot be read is the beginning
        again = Following(log, "failing", failing.follow, tmp_path)
        _until(lambda: again.position == log.end)
        again.close()
        assert failing.seen[1:] == [b"one", b"two", b"three"] * 2


def test_a_damaged_store_beside_the_one_in_use_stops_no_push(story: Any) -> None:
    materialize(story.settings)
    used = places(story.settings).online.resolve()
    used.with_name(f"{'0' * 16}{used.suffix}").write_bytes(b"torn" * 4096)
    with closing(OnlinePush(story.settings, story.settings.lake_dir)) as push:
        assert push.rewind()
        push.follow(records(collected("x1", "2024-01-08 10:00", "ink")))
    assert items_of(story)[-1] == "ink"


def test_a_damaged_store_in_use_is_reported(story: Any) -> None:
    materialize(story.settings)
    places(story.settings).online.resolve().write_bytes(b"torn" * 4096)
    with (
        closing(OnlinePush(story.settings, story.settings.lake_dir)) as push,
        pytest.raises(StoreUnavailableError, match="shoplens materialize"),
    ):
        push.rewind()
