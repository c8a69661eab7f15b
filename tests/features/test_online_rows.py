"""Rows of online stores: the same rules on SQLite and on Redis, held by two processes at once and after kills."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import materialize as loads
from features.online_stores.redis_rows import RedisRows
from features.online_stores.rows import LISTS, LiveEvent, RowStore
from features.online_stores.sqlite_rows import SqliteRows
from features.online_stores.views import TYPES, Row, View
from shoplens.errors import FeatureError, SettingsError, StoreUnavailableError
from tests.store_digest import stored_rows

pytestmark = pytest.mark.stores
Open = Callable[[], RowStore]


def view(key: str = "user_id", name: str = "view", **features: str) -> View:
    """A view, e.g. view(count="int64", names="array(string)")."""
    return View(name, key, tuple(features.items()))


def put(store: RowStore, view: View, *rows: Row) -> None:
    """Write rows."""
    store.write(view, view.batch(rows))


def every(store: RowStore, view: View) -> list[Row]:
    """Return all rows of a view, sorted by key."""
    rows = [row[1:] for row in stored_rows(store) if row[0] == view.name]
    return [Row(key, micros, view.decode(content)) for key, micros, content in rows]


def get(store: RowStore, view: View, *keys: str) -> dict[str, Row]:
    """Read rows of one view."""
    return store.read([view], keys)[0]


COUNT = view(count="int64")


@pytest.fixture(params=["sqlite", "redis"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open the same store again and again, as other processes do."""
    if request.param == "sqlite":
        yield lambda: SqliteRows(tmp_path / "rows.db")
        return
    url, name = request.getfixturevalue("redis_url"), tmp_path.name
    yield lambda: RedisRows(url, name)
    RedisRows(url, name).remove()


@pytest.fixture
def store(opens: Open) -> Iterator[RowStore]:
    held = opens()
    yield held
    held.close()


EVERY_KIND = view(
    small="int32", big="int64", single="float32", double="float64", flag="bool", text="string",
    smalls="array(int32)", bigs="array(int64)", singles="array(float32)", doubles="array(float64)",
    flags="array(bool)", texts="array(string)",
)  # fmt: skip
ONE_TENTH = 0.10000000149011612  # 0.1 in 32 bits
VALUES = {
    "plain": (7, 8, 0.5, 0.1, True, "tea", [1, -2], [3], [0.5], [0.1], [True, False], ["a", "b"]),
    "limits": (
        -(2**31), 2**63 - 1, float("inf"), 5e-324, False, "",
        [2**31 - 1], [-(2**63)], [float("-inf")], [1.7976931348623157e308], [], [""],
    ),
    "all missing": (None,) * 12,
    "empty lists": (1, 1, 1.0, 1.0, False, "x", [], [], [], [], [], []),
    "texts of all kinds": (
        0, 0, 0.0, 0.0, True, "\x00 'quoted\" 漢字 \U0001f35e", [], [], [], [], [], ["", "ä\x00", "漢" * 300],
    ),
}  # fmt: skip


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_values_come_back_to_the_bit(store: RowStore, values: tuple[Any, ...]) -> None:
    put(store, EVERY_KIND, Row("ann", -5, values))
    assert get(store, EVERY_KIND, "ann", "bob") == {"ann": Row("ann", -5, values)}
    columns = {
        name: pa.array([None, one], TYPES[kind]) for (name, kind), one in zip(EVERY_KIND.features, values, strict=True)
    }
    moments = pa.array([0, 1_000_001], pa.timestamp("us", "UTC"))
    batch = pa.record_batch({"user_id": ["bob", "ann"], "event_timestamp": moments, **columns})
    store.write(EVERY_KIND, batch.slice(1))  # of a slice only its own part of the buffers
    assert get(store, EVERY_KIND, "ann", "bob") == {"ann": Row("ann", 1_000_001, values)}
    store.write(EVERY_KIND, batch)
    assert get(store, EVERY_KIND, "bob") == {"bob": Row("bob", 0, (None,) * 12)}


def test_numbers_are_as_wide_as_declared(store: RowStore) -> None:
    one = view(single="float32", singles="array(float32)", double="float64")
    put(store, one, Row("a", 0, (0.1, [0.1], float("nan"))), Row("b", 0, (-0.0, [-0.0], None)))
    found = get(store, one, "a", "b")
    assert found["a"].values == (ONE_TENTH, [ONE_TENTH], None)  # NaN alone is a missing value
    assert str(found["b"].values) == "(0.0, [-0.0], None)"


WRONG = {
    "a text for a number": ("int64", "x"),
    "half a number": ("int64", 0.5),
    "too big": ("int32", 2**31),
    "a number for a list": ("array(int64)", 5),
    "half a number in a list": ("array(int64)", [1, 0.5]),
    "too big in a list": ("array(int32)", [2**31]),
    "a missing value in a list": ("array(string)", ["a", None]),
}


@pytest.mark.parametrize(("kind", "value"), WRONG.values(), ids=WRONG.keys())
def test_a_value_of_another_type_is_rejected_and_nothing_is_written(store: RowStore, kind: str, value: Any) -> None:
    one = view(feature=kind)
    put(store, one, Row("ann", 1, (None,)))
    with pytest.raises(FeatureError, match=r"must (be|not)"):
        put(store, one, Row("bob", 1, (None,)), Row("ann", 2, (value,)))
    assert get(store, one, "ann", "bob") == {"ann": Row("ann", 1, (None,))}


# (event time, value) written one after the other, and the value that stays
ORDERS = {
    "later": ([(1, 10), (2, 20)], 20),
    "earlier by a microsecond": ([(2, 20), (1, 10)], 20),
    "the same moment: the later write": ([(2, 20), (2, 21)], 21),
    "before 1970": ([(-1, 10), (-2, 20)], 10),
    "around 1970": ([(-1, 10), (0, 20)], 20),
    "microseconds of today": ([(1_764_000_000_000_001, 10), (1_764_000_000_000_000, 20)], 10),
}


@pytest.mark.parametrize(("writes", "stays"), ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
def test_newest_wins(store: RowStore, writes: list[tuple[int, int]], stays: int, at_once: bool) -> None:
    rows = [Row("ann", moment, (value,)) for moment, value in writes]
    for some in [rows] if at_once else [[row] for row in rows]:
        put(store, COUNT, *some)
    assert get(store, COUNT, "ann")["ann"].values == (stays,)


def test_several_views_are_read_at_once(store: RowStore) -> None:
    texts = view(name="texts", text="string")
    put(store, COUNT, Row("ann", 1, (7,)))
    put(store, texts, Row("ann", 2, ("tea",)), Row("bob", 3, ("cup",)))
    assert store.read([texts, COUNT], ["ann", "bob"]) == [
        {"ann": Row("ann", 2, ("tea",)), "bob": Row("bob", 3, ("cup",))},
        {"ann": Row("ann", 1, (7,))},
    ]
    assert list(store.views()) == ["view", "texts"]


def test_a_view_whose_definition_changed_takes_a_new_store(store: RowStore, opens: Open) -> None:
    put(store, view(count="int64"), Row("ann", 5, (1,)))
    other = opens()
    for changed in (view(count="float64"), view(count="int64", more="string"), view("item_id", count="int64")):
        with pytest.raises(FeatureError, match="run `shoplens materialize`"):
            put(other, changed)
    assert get(other, COUNT, "ann")["ann"].values == (1,)
    shorter = View("view", "user_id", COUNT.features, ttl_seconds=9.0)  # when rows expire may change
    other.prepare(shorter)
    assert other.views() == {"view": shorter}
    other.close()


NAMES = list(LISTS)
RECENT = View(
    "recent_events",
    "user_id",
    tuple(
        zip(
            NAMES,
            ["array(string)"] * 3 + ["array(int64)"] + ["array(float32)"] * 2 + ["array(string)"],
            strict=True,
        )
    ),
)


def live(event_id: str, time: int, user: str = "ann", known: int | None = None) -> LiveEvent:
    return LiveEvent(user, time if known is None else known, time, event_id, "", "search", 0.0, 0.5, "s")


def test_live_events_are_among_the_recent_events_of_their_user(store: RowStore, opens: Open) -> None:
    with pytest.raises(StoreUnavailableError, match="must hold a completed load"):
        store.append([live("x", 1)])
    loaded = (["a", "c"], ["tea", ""], ["view_item", "search"], [1, 3], [1.0, 0.0], [2.5, 0.0], ["o1", "s"])
    put(store, RECENT, Row("ann", 3, loaded))
    store.finish({"last_n": 3})
    other = opens()
    for some in ([live("d", 3, known=9), live("b", 2)], [live("b", 2), live("a", 7)], [live("e", 1, "bob")]):
        other.append(some)  # b comes twice; a is loaded with another time
    found = get(store, RECENT, "ann", "bob")
    assert found["ann"].values[0] == ["b", "c", "d"]
    assert found["ann"].values[3] == [2, 3, 3]
    assert found["ann"].event_micros == 9  # when the last one became known
    assert found["bob"] == Row("bob", 1, (["e"], [""], ["search"], [1], [0.0], [0.5], ["s"]))
    assert list(store.live()) == [live("b", 2), live("d", 3, known=9), live("a", 7), live("e", 1, "bob")]
    store.append([live(f"f{n}", 10) for n in (3, 1, 2, 0)])  # as many as a list has are kept, the last ones
    assert [one.event_id for one in store.live()] == ["f1", "f2", "f3", "e"]
    assert store.erase("ann") == {"recent_events": 1, "live_events": 3}
    other.append([live("g", 20), live("e", 1, "bob")])
    assert list(store.live()) == [live("e", 1, "bob")]
    other.close()


def test_a_removed_store_takes_no_more_events(redis_url: str) -> None:
    """What a push wrote after the removal would stay in Redis for good."""
    store, other = RedisRows(redis_url, "removed"), RedisRows(redis_url, "removed")
    store.finish({"last_n": 3})
    store.append([live("a", 1)])
    other.remove()
    with pytest.raises(StoreUnavailableError, match="was removed"):
        store.append([live("b", 2)])
    assert list(other.live()) == []


def test_erased_people_do_not_come_back(store: RowStore, opens: Open, tmp_path: Path) -> None:
    other = opens()  # has written before there was a tombstone
    put(other, COUNT, Row("somebody-unique", 1, (1,)), Row("bob", 1, (1,)))
    assert store.erase("somebody-unique") == {"view": 1, "live_events": 0}
    assert store.erase("somebody-unique") == {"view": 0, "live_events": 0}
    late = Row("somebody-unique", 9, (9,))
    put(other, COUNT, late, Row("bob", 2, (2,)))
    assert every(store, COUNT) == [Row("bob", 2, (2,))]
    if isinstance(store, SqliteRows):
        other.close()
        left = b"".join(path.read_bytes() for path in tmp_path.glob("rows.db*"))
        assert b"bob" in left
        assert b"somebody-unique" not in left
    store.reject([], only=True)
    put(other, COUNT, late)
    assert get(store, COUNT, late.key) == {late.key: late}


WRITER = """
import sys
from tests.features.test_online_rows import COUNT, Path, RedisRows, Row, SqliteRows, live, put
kind, place, name, way, number = sys.argv[1:]
store = SqliteRows(Path(place)) if kind == "sqlite" else RedisRows(place, name)
for turn in range(100):
    value = turn * 2 + int(number)
    if way == "events":
        store.append([live(f"e{value:03}", value), live(f"e{turn:03}", turn)])
    else:  # times go up and down; each is written by one of the two, with itself as value
        moment = (value * 37) % 200
        put(store, COUNT, *(Row(f"user{n}", moment, (moment,)) for n in range(20)))
"""


@pytest.mark.parametrize("way", ["events", "rows"])
def test_two_processes_at_once(store: RowStore, way: str, root: Path, tmp_path: Path, redis_url: str) -> None:
    place = str(tmp_path / "rows.db") if isinstance(store, SqliteRows) else redis_url
    kind = "sqlite" if isinstance(store, SqliteRows) else "redis"
    store.finish({"last_n": 150})
    command = [sys.executable, "-c", WRITER, kind, place, tmp_path.name, way]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    both = [subprocess.Popen([*command, str(number)], cwd=root, env=environment) for number in (0, 1)]
    assert [child.wait() for child in both] == [0, 0]
    if way == "events":  # nothing that one appended was lost by the other, nothing is doubled, the last 150 are kept
        assert [one.time for one in store.live()] == list(range(50, 200))
    else:  # 37 and 200 have no common divisor, so the moments are 0 to 199, and 199 is the newest
        assert {row.values for row in every(store, COUNT)} == {(199,)}


LOADER = """
import sys
from tests.features.test_online_rows import COUNT, Path, RedisRows, SqliteRows, loads
kind, place, name, folder = sys.argv[1:]
store = SqliteRows(Path(place)) if kind == "sqlite" else RedisRows(place, name)
loads._REPORT_SECONDS, loads._SLICE_ROWS = 0.0, 200
loads.load_view(store, COUNT, Path(folder), "one", lambda line: print(line, flush=True))
"""


def test_a_killed_load_resumes_where_it_stopped(store: RowStore, root: Path, tmp_path: Path, redis_url: str) -> None:
    users = 20_000
    table = {
        "user_id": [f"user{n:05}" for n in reversed(range(users))],
        "event_timestamp": pa.array(range(users), pa.timestamp("us", "UTC")),
        "count": list(reversed(range(users))),
    }
    pq.write_table(pa.table(table), tmp_path / "view.parquet")
    sqlite = isinstance(store, SqliteRows)
    place = str(tmp_path / "rows.db") if sqlite else redis_url
    command = [sys.executable, "-c", LOADER, "sqlite" if sqlite else "redis", place, tmp_path.name, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "of 20,000 values" in child.stdout.readline()
        child.kill()
    done = store.loaded_rows(COUNT, "one")
    assert 0 < done < users, "the kill came too late to test anything"
    assert len(every(store, COUNT)) >= done
    written = loads.load_view(store, COUNT, tmp_path, "one", lambda line: None)
    assert written == users - done
    assert [row.values[0] for row in every(store, COUNT)] == list(range(users))
    assert loads.load_view(store, COUNT, tmp_path, "one", lambda line: None) == 0
    assert store.state() is None
    store.finish({"last_n": 5})
    assert store.state() == {"last_n": 5}


def test_a_load_that_was_interrupted_before_an_erasure_begins_again(store: RowStore, tmp_path: Path) -> None:
    """The erased row is missing from the copy: what was written is no longer what comes first."""
    moments = pa.array([1, 1], pa.timestamp("us", "UTC"))
    rows = pa.table({"user_id": ["bob", "cleo"], "event_timestamp": moments, "count": [2, 3]})
    pq.write_table(rows, tmp_path / "view.parquet")
    put(store, COUNT, Row("ann", 1, (1,)))
    store.set_loaded_rows(COUNT, "one", 1)
    store.erase("ann")
    assert loads.load_view(store, COUNT, tmp_path, "one", lambda line: None) == 2
    assert [row.key for row in every(store, COUNT)] == ["bob", "cleo"]


def test_a_copy_holds_what_has_not_expired_and_a_load_the_newest_row_of_each_key(
    store: RowStore, tmp_path: Path, story: Any
) -> None:
    from features.repo import definitions

    views = definitions(story.features_dir).views
    day = datetime(2024, 1, 8, tzinfo=UTC)
    windows = {"user_behaviour": (day - timedelta(days=2), day), "recent_events": (day - timedelta(days=90), day)}
    loads.freeze(story.features_dir, tmp_path / "copy", windows)
    assert pq.read_table(tmp_path / "copy/user_behaviour.parquet").num_rows == 6  # ann and bob on the 6th, 7th and 8th
    behaviour = View.of(views["user_behaviour"])
    assert loads.load_view(store, behaviour, tmp_path / "copy", "one", lambda line: None) == 2 * len(behaviour.names)
    latest = every(store, behaviour)
    assert [row.key for row in latest] == ["ann", "bob"]
    assert {row.event_micros for row in latest} == {int(day.timestamp() * 1e6)}
    assert not list((tmp_path / "copy").rglob("spill"))


def test_slices_with_lists_and_keys_of_any_kind(store: RowStore, tmp_path: Path) -> None:
    days = pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (7, 8, 8)], pa.timestamp("us", "UTC"))
    rows = {"item_id": ['te"a*', 'te"a*', "[cup]"], "event_timestamp": days}
    pq.write_table(pa.table({**rows, "days": [[9], [1, 8], []], "times": [1, 2, 3]}), tmp_path / "items.parquet")
    (tmp_path / "features.json").write_text("{}")
    items = view("item_id", "items", times="int64", days="array(int64)")
    window = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 9, tzinfo=UTC))
    loads.freeze(tmp_path, tmp_path / "copy", {"items": window})
    assert loads.load_view(store, items, tmp_path / "copy", "one", lambda line: None) == 2 * 2
    found = get(store, items, 'te"a*', "[cup]", "tea")
    assert {key: row.values for key, row in found.items()} == {'te"a*': (2, [1, 8]), "[cup]": (3, [])}
    assert [row.key for row in every(store, items)] == ["[cup]", 'te"a*']
    assert store.erase("[cup]") == {"live_events": 0}  # an item is not a person
    assert len(every(store, items)) == 2


def test_an_online_view_has_one_key_and_known_types() -> None:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Int64, String, UnixTimestamp

    user, item = (Entity(name=one, join_keys=[f"{one}_id"], value_type=ValueType.STRING) for one in ("user", "item"))
    source = FileSource(name="file", path="x.parquet", timestamp_field="event_timestamp")

    def defined(entities: list[Any], **types: Any) -> View:
        fields = [Field(name=name, dtype=dtype) for name, dtype in types.items()]
        return View.of(FeatureView(name="v", entities=entities, schema=fields, source=source, ttl=timedelta(days=2)))

    assert defined([user], user_id=String, n=Int64) == View("v", "user_id", (("n", "int64"),), 172_800.0)
    with pytest.raises(FeatureError, match="must have one join key"):
        defined([user, item], user_id=String, item_id=String, n=Int64)
    with pytest.raises(FeatureError, match="n of v: must be one of int32"):
        defined([user], user_id=String, n=UnixTimestamp)


def test_an_address_that_is_not_valid_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        RedisRows("rediss:/:s3cret@host:port/x", "store")
    assert "s3cret" not in str(caught.value)


def test_an_empty_batch_changes_nothing(store: RowStore) -> None:
    put(store, COUNT)
    assert every(store, COUNT) == []
