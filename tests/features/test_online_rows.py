"""Rows of online stores: the same rules on SQLite and on Redis, held by two processes at once and after kills."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import load as loads
from features.online_stores.redis_rows import RedisRows, connect
from features.online_stores.rows import Progress, RowStore
from features.online_stores.shape import Row, ViewShape, kind_of
from features.online_stores.sqlite_rows import SqliteRows
from shoplens.errors import FeatureError, SettingsError

pytestmark = pytest.mark.stores
Open = Callable[[], RowStore]


def shape(keys: tuple[str, ...] = ("user_id",), name: str = "view", **features: str) -> ViewShape:
    """The shape of a view, e.g. shape(count="int64", names="array(string)")."""
    return ViewShape(name, keys, tuple((one, kind_of(kind, one)) for one, kind in features.items()))


COUNT = shape(count="int64")


@pytest.fixture(params=["sqlite", "redis"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open the same store again and again, as other processes do."""
    if request.param == "sqlite":
        yield lambda: SqliteRows(tmp_path / "rows.db")
        return
    url, generation = request.getfixturevalue("redis_url"), tmp_path.name
    yield lambda: RedisRows(url, generation)
    RedisRows(url, generation).remove()


@pytest.fixture
def store(opens: Open) -> Iterator[RowStore]:
    held = opens()
    yield held
    held.close()


EVERY_KIND = shape(
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
    store.write(EVERY_KIND, [Row(("ann",), -5, values)])
    assert store.read(EVERY_KIND, [("ann",), ("bob",)]) == {("ann",): Row(("ann",), -5, values)}
    assert store.read(EVERY_KIND, [("ann",)], ["texts", "small"])[("ann",)].values == (values[11], values[0])
    columns = {
        name: pa.array([None, one], kind.arrow) for (name, kind), one in zip(EVERY_KIND.features, values, strict=True)
    }
    moments = pa.array([0, 1_000_001], pa.timestamp("us", "UTC"))
    batch = pa.record_batch({"user_id": ["bob", "ann"], "event_timestamp": moments, **columns})
    store.load(EVERY_KIND, batch.slice(1))  # of a slice only its own part of the buffers
    assert store.read(EVERY_KIND, [("ann",), ("bob",)]) == {("ann",): Row(("ann",), 1_000_001, values)}
    store.load(EVERY_KIND, batch)
    assert store.read(EVERY_KIND, [("bob",)])[("bob",)] == Row(("bob",), 0, (None,) * 12)


def test_numbers_are_as_wide_as_declared(store: RowStore) -> None:
    one = shape(single="float32", singles="array(float32)", double="float64")
    store.write(one, [Row(("a",), 0, (0.1, [0.1], float("nan"))), Row(("b",), 0, (-0.0, [-0.0], None))])
    found = store.read(one, [("a",), ("b",)])
    assert found[("a",)].values == (ONE_TENTH, [ONE_TENTH], None)  # NaN alone is a missing value
    assert str(found[("b",)].values) == "(0.0, [-0.0], None)"


WRONG = {
    "a text for a number": ("int64", "x"),
    "half a number": ("int64", 0.5),
    "too big": ("int32", 2**31),
    "a number for a text": ("string", 5),
    "a number for a list": ("array(int64)", 5),
    "half a number in a list": ("array(int64)", [1, 0.5]),
    "too big in a list": ("array(int32)", [2**31]),
    "a missing value in a list": ("array(string)", ["a", None]),
}


@pytest.mark.parametrize(("kind", "value"), WRONG.values(), ids=WRONG.keys())
def test_a_value_of_another_kind_is_refused_and_nothing_is_written(store: RowStore, kind: str, value: Any) -> None:
    one = shape(feature=kind)
    store.write(one, [Row(("ann",), 1, (None,))])
    with pytest.raises(FeatureError, match="must be"):
        store.write(one, [Row(("bob",), 1, (None,)), Row(("ann",), 2, (value,))])
    assert store.read(one, [("ann",), ("bob",)]) == {("ann",): Row(("ann",), 1, (None,))}


# (event time, value) written one after the other, and the value that stays
ORDERS = {
    "later": ([(1, 10), (2, 20)], 20),
    "earlier by a microsecond": ([(2, 20), (1, 10)], 20),
    "the same moment: the later write": ([(2, 20), (2, 21)], 21),
    "before 1970": ([(-1, 10), (-2, 20)], 10),
    "around 1970": ([(-1, 10), (0, 20)], 20),
    "microseconds of today": ([(1_764_000_000_000_001, 10), (1_764_000_000_000_000, 20)], 10),
}


def _always(row: Row, _: object) -> list[Row]:
    return [row]


@pytest.mark.parametrize(("writes", "stays"), ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("way", ["write", "write at once", "load", "change"])
def test_newest_wins_on_every_path(store: RowStore, writes: list[tuple[int, int]], stays: int, way: str) -> None:
    rows = [Row(("ann",), moment, (value,)) for moment, value in writes]
    if way == "write at once":
        store.write(COUNT, rows)
    for row in rows if way != "write at once" else []:
        if way == "write":
            store.write(COUNT, [row])
        elif way == "change":
            store.change(COUNT, [row.key], partial(_always, row))
        else:
            moment = pa.array([row.event_micros], pa.timestamp("us", "UTC"))
            store.load(
                COUNT, pa.record_batch({"user_id": ["ann"], "event_timestamp": moment, "count": [row.values[0]]})
            )
    assert store.read(COUNT, [("ann",)])[("ann",)].values == (stays,)


def test_views_with_two_keys(store: RowStore) -> None:
    pairs = shape(("item_id", "user_id"), name="pairs", count="int64")
    keys = [("1", "23"), ("12", "3"), ("1:2", "3"), ("*", "?")]  # what joins or matches carelessly would mix up
    store.write(pairs, [Row(key, place, (place,)) for place, key in enumerate(keys)])
    assert store.read(pairs, [*keys, ("1", "2")]) == {key: Row(key, n, (n,)) for n, key in enumerate(keys)}
    assert [row.key for row in store.scan(pairs)] == sorted(keys)
    assert store.erase("3") == {"pairs": 2}
    assert [row.key for row in store.scan(pairs)] == [("*", "?"), ("1", "23")]


def test_definitions_that_change(store: RowStore) -> None:
    store.write(shape(stays="int64", goes="string", retyped="int32"), [Row(("ann",), 5, (1, "x", 2))])
    changed = shape(retyped="float64", stays="int64", new="array(string)")
    store.prepare(changed)
    assert store.read(changed, [("ann",)])[("ann",)] == Row(("ann",), 5, (None, 1, None))
    store.write(changed, [Row(("ann",), 5, (0.5, 1, ["y"]))])  # the same moment again fills what is new
    assert store.read(changed, [("ann",)])[("ann",)].values == (0.5, 1, ["y"])
    assert store.views() == {"view"}
    store.drop("view")
    store.prepare(changed)
    assert store.read(changed, [("ann",)]) == {}


def test_erased_people_do_not_come_back(store: RowStore, opens: Open, tmp_path: Path) -> None:
    other = opens()  # has read the tombstones before there was one
    other.write(COUNT, [Row(("somebody-unique",), 1, (1,)), Row(("bob",), 1, (1,))])
    assert store.erase("somebody-unique") == {"view": 1}
    assert store.erase("somebody-unique") == {"view": 0}
    late = Row(("somebody-unique",), 9, (9,))
    other.write(COUNT, [late, Row(("bob",), 2, (2,))])
    other.change(COUNT, [late.key], lambda held: [late])
    moments = pa.array([9], pa.timestamp("us", "UTC"))
    other.load(COUNT, pa.record_batch({"user_id": [late.key[0]], "event_timestamp": moments, "count": [9]}))
    assert [tuple(row) for row in store.scan(COUNT)] == [(("bob",), 2, (2,))]
    if isinstance(store, SqliteRows):
        other.close()
        left = b"".join(path.read_bytes() for path in tmp_path.glob("rows.db*"))
        assert b"bob" in left
        assert b"somebody-unique" not in left
    store.tombstones([])
    other.write(COUNT, [late])
    assert store.read(COUNT, [late.key]) == {late.key: late}


WRITER = """
import sys
from tests.features.test_online_rows import COUNT, Row, SqliteRows, RedisRows, Path, shape
kind, place, generation, way, number = sys.argv[1:]
store = SqliteRows(Path(place)) if kind == "sqlite" else RedisRows(place, generation)
LISTS = shape(name="lists", seen="array(int64)")
def added(value):
    def change(held):
        row = held.get(("ann",), Row(("ann",), 0, ([],)))
        return [Row(("ann",), row.event_micros, (row.values[0] + [value],))]
    return change
for turn in range(100):
    value = turn * 2 + int(number)
    if way == "lists":
        store.change(LISTS, [("ann",)], added(value))
    else:  # times go up and down; each is written by one of the two, with itself as value
        moment = (value * 37) % 200
        store.write(COUNT, [Row((f"user{n}",), moment, (moment,)) for n in range(20)])
"""


@pytest.mark.parametrize("way", ["lists", "rows"])
def test_two_processes_at_once(store: RowStore, way: str, root: Path, tmp_path: Path, redis_url: str) -> None:
    place = str(tmp_path / "rows.db") if isinstance(store, SqliteRows) else redis_url
    kind = "sqlite" if isinstance(store, SqliteRows) else "redis"
    store.prepare(COUNT)
    command = [sys.executable, "-c", WRITER, kind, place, tmp_path.name, way]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    both = [subprocess.Popen([*command, str(number)], cwd=root, env=environment) for number in (0, 1)]
    assert [child.wait() for child in both] == [0, 0]
    if way == "lists":  # nothing that one added was lost by the other
        (row,) = store.read(shape(name="lists", seen="array(int64)"), [("ann",)]).values()
        assert sorted(row.values[0]) == list(range(200))
    else:  # 37 and 200 have no common divisor, so the moments are 0 to 199, and 199 is the newest
        assert {row.cells for row in store.scan(COUNT)} == {(199,)}


LOADER = """
import sys
from tests.features.test_online_rows import COUNT, SqliteRows, RedisRows, Path, loads
kind, place, generation, folder = sys.argv[1:]
store = SqliteRows(Path(place)) if kind == "sqlite" else RedisRows(place, generation)
loads._TELL_SECONDS = 0.0
loads.load_view(store, COUNT, Path(folder), "one", lambda line: print(line, flush=True))
"""


def test_a_killed_load_goes_on_where_it_stopped(store: RowStore, root: Path, tmp_path: Path, redis_url: str) -> None:
    users, slices = 20_000, 100
    (tmp_path / "latest").mkdir()
    table = pa.table(
        {
            "user_id": [f"user{n:05}" for n in range(users)],
            "event_timestamp": pa.array(range(users), pa.timestamp("us", "UTC")),
            "count": range(users),
        }
    )
    pq.write_table(table, tmp_path / "latest/view.parquet", row_group_size=users // slices)
    sqlite = isinstance(store, SqliteRows)
    place = str(tmp_path / "rows.db") if sqlite else redis_url
    command = [sys.executable, "-c", LOADER, "sqlite" if sqlite else "redis", place, tmp_path.name, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "of 20,000 values" in child.stdout.readline()
        child.kill()
    done = store.progress("view", "one")
    assert 0 < done < slices, "the kill came too late to test anything"
    assert store.progress("view", "another") == 0
    assert len(list(store.scan(COUNT))) >= done * users // slices
    written = loads.load_view(store, COUNT, tmp_path, "one", lambda line: None)
    assert written == users - done * users // slices
    assert [row.cells[0] for row in store.scan(COUNT)] == list(range(users))
    assert loads.load_view(store, COUNT, tmp_path, "one", lambda line: None) == 0
    assert store.loaded() is None
    store.finish("one")
    assert store.loaded() == "one"


def test_slices_hold_the_newest_row_of_each_key(tmp_path: Path, story: Any) -> None:
    from features.repo import definitions

    views = definitions(story.features_dir).views
    day = datetime(2024, 1, 8, tzinfo=UTC)
    windows = {"user_behaviour": (day - timedelta(days=2), day), "recent_events": (day - timedelta(days=90), day)}
    loads.freeze(story.features_dir, tmp_path / "copy", windows, [views[name] for name in windows])
    alive = pq.read_table(tmp_path / "copy/user_behaviour.parquet")
    assert alive.num_rows == 6  # ann and bob on the 6th, 7th and 8th
    latest = pq.read_table(tmp_path / "copy/latest/user_behaviour.parquet")
    assert latest["user_id"].to_pylist() == ["ann", "bob"]
    assert set(latest["event_timestamp"].to_pylist()) == {day}
    assert latest.schema.field("recency_days").type == alive.schema.field("recency_days").type
    assert not list((tmp_path / "copy").rglob("spill"))


def test_slices_of_a_view_with_two_keys_and_lists(store: RowStore, tmp_path: Path) -> None:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Int64, String

    days = pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (7, 8, 8)], pa.timestamp("us", "UTC"))
    rows = {"user_id": ["ann", "ann", "ann"], "item_id": ["tea", "tea", "cup"], "event_timestamp": days}
    lists = {"days_since": [[9], [1, 8], []], "times": [1, 2, 3]}
    pq.write_table(pa.table({**rows, **lists}), tmp_path / "pairs.parquet")
    (tmp_path / "features.json").write_text("{}")
    entities = [Entity(name=one, join_keys=[f"{one}_id"], value_type=ValueType.STRING) for one in ("user", "item")]
    kinds = {"user_id": String, "item_id": String, "days_since": Array(Int64), "times": Int64}
    view = FeatureView(
        name="pairs",
        entities=entities,
        schema=[Field(name=name, dtype=dtype) for name, dtype in kinds.items()],
        source=FileSource(name="file", path=str(tmp_path / "pairs.parquet"), timestamp_field="event_timestamp"),
    )
    window = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 9, tzinfo=UTC))
    loads.freeze(tmp_path, tmp_path / "copy", {"pairs": window}, [view])
    pairs = ViewShape.of(view)
    assert pairs.keys == ("item_id", "user_id")  # sorted, as in every store
    assert loads.load_view(store, pairs, tmp_path / "copy", "one", lambda line: None) == 2 * 2
    found = store.read(pairs, [("tea", "ann"), ("cup", "ann"), ("ann", "tea")], ["times", "days_since"])
    assert {key: row.values for key, row in found.items()} == {("tea", "ann"): (2, [1, 8]), ("cup", "ann"): (3, [])}


def test_an_address_that_cannot_be_understood_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        connect("rediss:/:s3cret@host:port/x")
    assert "s3cret" not in str(caught.value)


def test_progress_of_an_empty_slice_is_kept(store: RowStore) -> None:
    moments = pa.array([], pa.timestamp("us", "UTC"))
    empty = pa.record_batch(
        {"user_id": pa.array([], pa.string()), "event_timestamp": moments, "count": pa.array([], pa.int64())}
    )
    store.load(COUNT, empty, Progress("one", 3))
    assert store.progress("view", "one") == 3
