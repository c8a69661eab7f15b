"""Histories against a naive reading of the same events."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Catalogue
from features.histories import Histories, UserLog, write_log
from features.items import NAMES, ItemTables, item_tables, table_times
from shoplens.errors import FeatureError

START = datetime(2024, 1, 1, tzinfo=UTC)
USERS, ITEMS = ["ann", "bob", "eve"], ["bread", "ink", "milk"]
_EVENT = st.tuples(
    st.sampled_from([*USERS, None]),
    st.integers(0, 400),  # hours after START
    st.sampled_from([0, 0, 0, 30]),  # hours until it is received
    st.sampled_from(["purchase", "view_item"]),
    st.sampled_from([*ITEMS, None]),
    st.integers(1, 3),  # pieces
)


def frame_of(drawn: list[tuple]) -> pl.DataFrame:
    rows = [
        {
            "event_id": f"e{k:03}",
            "event_time": START + timedelta(hours=hours),
            "ingested_at": START + timedelta(hours=hours + late),
            "event_name": name,
            "user_id": user,
            "session_id": f"s{hours // 24}",
            "item_id": item,
            "quantity": float(pieces),
            "amount": 2.0 * pieces,
            "order_id": f"o{hours}" if name == "purchase" else None,
        }
        for k, (user, hours, late, name, item, pieces) in enumerate(drawn)
    ]
    kinds = {"event_time": pl.Datetime("us", "UTC"), "ingested_at": pl.Datetime("us", "UTC"), "item_id": pl.String}
    empty = dict.fromkeys(("event_id", "event_name", "user_id", "session_id", "order_id"), pl.String)
    return pl.DataFrame(rows, schema={**empty, **kinds, "quantity": pl.Float64, "amount": pl.Float64})


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(pl.DataFrame({"item_index": [2, 3, 4], "item_id": ITEMS}))


def expected(events: pl.DataFrame, user: str, moment: datetime, n: int) -> list[tuple[str, datetime]]:
    known = [
        (row["event_time"], row["event_id"], row["item_id"])
        for row in events.to_dicts()
        if row["user_id"] == user and row["event_time"] < moment and row["ingested_at"] < moment
    ]
    return [(item, when) for when, _, item in sorted(known, key=lambda one: one[:2])][-n:]


def read(history: Histories, row: int, catalogue: Catalogue) -> list[tuple[str, datetime]]:
    places = slice(int(history.begin[row]), int(history.end[row]))
    names = [None, None, *catalogue.frame["item_id"]]
    items = [names[index] for index in history.log.item_index[places]]
    times = [one.replace(tzinfo=UTC) for one in history.log.event_time[places].tolist()]
    return list(zip(items, times, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    drawn=st.lists(_EVENT, max_size=30),
    hours=st.lists(st.integers(0, 450), min_size=1, max_size=8),
    n=st.sampled_from([1, 3, 50]),
)
def test_as_of_compaction_and_windows(catalogue: Catalogue, drawn: list, hours: list[int], n: int) -> None:
    events = frame_of(drawn)
    users = [USERS[k % 3] if k % 4 else "nobody" for k in range(len(hours))]
    moments = [START + timedelta(hours=h) for h in hours]
    times = np.array([one.replace(tzinfo=None) for one in moments], dtype="datetime64[us]")
    found = UserLog.from_events(events, catalogue).as_of(users, times, n)
    order = np.arange(len(hours))[::-1]
    for history, rows in (
        (found, range(len(hours))),
        (found.compact(), range(len(hours))),
        (found.take(order).compact(), order),
    ):
        for place, row in enumerate(rows):
            assert read(history, place, catalogue) == expected(events, users[row], moments[row], n)
    window = found.window(2)
    for row in range(len(hours)):
        wanted = [when for _, when in expected(events, users[row], moments[row], n)][-2:]
        assert [one.replace(tzinfo=UTC) for one in window.event_time[row][window.valid[row]].tolist()] == wanted


@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(_EVENT, max_size=30))
def test_a_log_written_in_pieces_is_the_log_in_memory(
    catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory, drawn: list
) -> None:
    events, folder = frame_of(drawn), tmp_path_factory.mktemp("log") / "event_log"
    named = events.filter(pl.col("user_id").is_not_null())
    pieces = [events.filter(pl.col("user_id") == user) for user in reversed(USERS)]
    write_log(pieces, named.height, catalogue, folder)
    times = np.full(3, np.datetime64("2024-03-01", "us"))
    stored, direct = (
        UserLog.load(folder).as_of(USERS, times, 99),
        UserLog.from_events(events, catalogue).as_of(USERS, times, 99),
    )
    for one, other in zip(vars(stored.window(40)).values(), vars(direct.window(40)).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_log_and_a_piece_too_few_are_reported(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"event log .*: cannot be read .* Run the stage `features`"):
        UserLog.load(tmp_path)
    with pytest.raises(FeatureError, match=r"must have 2 events; the pieces have 1"):
        write_log([frame_of([("ann", 1, 0, "purchase", "ink", 1)])], 2, catalogue, tmp_path / "log")


def test_item_tables_by_hand(catalogue: Catalogue) -> None:
    """Ann buys bread on days 0, 7 and 21, Bob on day 14; a view on day 20 is received on day 30."""
    day = 24
    events = frame_of(
        [
            *(("ann", when * day, 0, "purchase", "bread", 1) for when in (0, 7, 21)),
            ("bob", 14 * day, 0, "purchase", "bread", 2),
            ("bob", 20 * day, 10 * day, "view_item", "bread", 1),
        ]
    )
    times = np.array(["2024-01-15T12", "2024-01-29"], dtype="datetime64[us]")  # days 14.5 and 28
    tables = item_tables(UserLog.from_events(events, catalogue), catalogue.size, times)
    first, second = (dict(zip(NAMES, tables.values[k, 2].tolist(), strict=True)) for k in (0, 1))
    assert first["item_buys_7d"] == pytest.approx(np.exp(-14.5 / 7) + np.exp(-7.5 / 7) + np.exp(-0.5 / 7), rel=1e-5)
    assert second["item_events_28d"] == pytest.approx(sum(np.exp(-age / 28) for age in (28, 21, 14, 7)), rel=1e-5)
    assert (first["item_buyers"], first["item_repeats"], second["item_repeats"]) == (2, 1, 2)
    assert first["item_log_gap_mean"] == pytest.approx(np.log(7), abs=1e-3)
    assert second["item_log_gap_mean"] == pytest.approx((np.log(7) + np.log(14)) / 2, abs=1e-3)
    assert second["item_log_gap_deviation"] == pytest.approx((np.log(14) - np.log(7)) / 2, abs=1e-3)
    assert second["item_price"] == pytest.approx(2.0)
    assert np.isnan(tables.values[1, 3, NAMES.index("item_price")]), "never sold: unknown, not free"


def test_a_purchase_and_its_refund_are_one_event_of_the_item(catalogue: Catalogue) -> None:
    bought = [("ann", 24, 0, "purchase", "bread", 1)]
    back = [("ann", 48, 0, "refund", "bread", 2), ("bob", 30, 0, "remove_from_cart", "bread", 3)]
    times = np.array(["2024-01-15"], dtype="datetime64[us]")
    one, other = (
        item_tables(UserLog.from_events(frame_of(drawn), catalogue), catalogue.size, times).values
        for drawn in (bought, bought + back)
    )
    np.testing.assert_array_equal(one, other)


def test_a_table_never_reads_what_was_not_yet_known(catalogue: Catalogue) -> None:
    random = np.random.default_rng(0)
    drawn = [
        (
            USERS[random.integers(3)],
            int(random.integers(400)),
            30 * int(random.integers(2)),
            "purchase",
            ITEMS[random.integers(3)],
            1,
        )
        for _ in range(80)
    ]
    events = frame_of(drawn)
    moment = START + timedelta(hours=200)
    times = np.array([moment.replace(tzinfo=None)], dtype="datetime64[us]")
    known = events.filter((pl.col("event_time") < moment) & (pl.col("ingested_at") < moment))
    both = [item_tables(UserLog.from_events(one, catalogue), catalogue.size, times).values for one in (events, known)]
    counts = [k for k, name in enumerate(NAMES) if "gap" not in name and "repeats" not in name and "buyers" not in name]
    np.testing.assert_array_equal(both[0][..., counts], both[1][..., counts])


def test_tables_are_weekly_or_denser_and_survive_saving(catalogue: Catalogue, tmp_path: Path) -> None:
    start, end = np.datetime64("2024-01-01", "us"), np.datetime64("2024-12-30", "us")
    times = table_times(start, end)
    assert (times[-1], times[1] - times[0], len(times)) == (end, np.timedelta64(7, "D"), 53)
    assert len(table_times(start, start + np.timedelta64(2, "h"))) == 33
    drawn = [("ann", 5, 0, "purchase", "ink", 1), ("bob", 200, 0, "view_item", "milk", 1)]
    tables = item_tables(UserLog.from_events(frame_of(drawn), catalogue), catalogue.size, times[:3])
    tables.write(tmp_path / "one.npz")
    tables.write(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = ItemTables.read(tmp_path / "one.npz")
    np.testing.assert_array_equal(back.values, tables.values)
    np.testing.assert_array_equal(back.times, tables.times)
    with pytest.raises(FeatureError, match=r"item tables: begin at 2024-01-01"):
        back.at(np.array(["2023-01-01"], dtype="datetime64[us]"))


def test_an_item_that_nobody_took_for_years_survives_saving(tmp_path: Path) -> None:
    values = np.zeros((1, 4, len(NAMES)), dtype=np.float32)
    values[0, 3, NAMES.index("item_events_91d")] = np.exp(-800 / 91)
    values[0, 3, NAMES.index("item_buyers")] = 2
    ItemTables(np.array(["2024-01-01"], dtype="datetime64[us]"), values).write(tmp_path / "items.npz")
    back = ItemTables.read(tmp_path / "items.npz").values[0, 3]
    assert back[NAMES.index("item_buyers")] == 2, "its decay over 7 days is 0"
