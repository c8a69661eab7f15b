from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from shoplens.errors import ModelError
from shoplens.params import RowsParams, load_params
from training.datasets import _limited, build_rows
from training.keys import next_item_keys, purchase_keys
from training.moments import Timeline

START = datetime(2024, 1, 1, tzinfo=UTC)
HIGH_WATER = START + timedelta(days=70)
ROWS = RowsParams(horizon_days=7, test_weeks=2, validation_weeks=2, warmup_weeks=2, lapsed=False, max_held_out_rows=100)
DATASET = {"identity": "user", "start": START.isoformat(), "high_water": HIGH_WATER.isoformat()}
SESSIONS = {**DATASET, "identity": "session"}


def log(*rows: tuple) -> pl.DataFrame:
    """Events from (days after the start, user, name, item, order)."""
    times = [START + timedelta(days=row[0]) for row in rows]
    return pl.DataFrame(
        {
            "event_id": [str(k) for k in range(len(rows))],
            "event_time": times,
            "ingested_at": times,
            "event_name": [row[2] for row in rows],
            "user_id": [row[1] for row in rows],
            "session_id": [row[1] for row in rows],
            "order_id": [row[4] for row in rows],
            "item_id": [row[3] for row in rows],
        },
        schema_overrides={"event_time": pl.Datetime("us", "UTC"), "ingested_at": pl.Datetime("us", "UTC")},
    )


def day(moment: datetime) -> float:
    return (moment - START) / timedelta(days=1)


def test_weekly_rows_labels_and_splits_equal_a_hand_calculation() -> None:
    # Cut-offs every week back from day 70 - 7: 63, 56 test; 49, 42 validation; 35, 28, 21, 14 train; 7 is warm-up.
    events = log(
        (0, "ann", "purchase", "a", "1"), (16, "ann", "purchase", "b", "2"), (58, "ann", "view_item", "b", None)
    )
    keys = purchase_keys(events, DATASET, ROWS, active_days=30)
    found = {day(row["time"]): (row["split"], row["label"]) for row in keys.to_dicts()}
    # Active for 30 days after day 0, 16 and 58. Buys within the week from day 14 (on day 16) only.
    assert found == {
        14: ("train", 1.0),
        21: ("train", 0.0),
        28: ("train", 0.0),
        35: ("train", 0.0),
        42: ("validation", 0.0),
        63: ("test", 0.0),
    }


def test_an_event_at_the_cut_off_belongs_to_the_label_window() -> None:
    events = log((0, "ann", "purchase", "a", "1"), (14, "ann", "purchase", "b", "2"))
    keys = purchase_keys(events, DATASET, ROWS, active_days=14)
    assert [(day(r["time"]), r["label"]) for r in keys.to_dicts()] == [(14, 1.0), (21, 0.0), (28, 0.0)]


def test_the_target_is_the_first_basket_of_the_week() -> None:
    events = log(
        (1, "ann", "purchase", "a", "1"),
        (15, "ann", "purchase", "c", "2"),
        (15, "ann", "purchase", "b", "2"),
        (16, "ann", "purchase", "d", "3"),
    )
    keys = next_item_keys(events, DATASET, ROWS, active_days=90)
    assert [(day(r["time"]), r["targets"]) for r in keys.to_dicts()] == [(14, ["b", "c"])]


def test_earlier_items_of_an_order_are_not_targets() -> None:
    events = log(
        (1, "ann", "purchase", "z", "1"),
        (13.9, "ann", "purchase", "a", "2"),
        (14.1, "ann", "purchase", "b", "2"),
        (21.5, "ann", "purchase", "c", "2"),  # the same order again, after the week
    )
    keys = next_item_keys(events, DATASET, ROWS, active_days=90)
    assert [(day(r["time"]), r["targets"]) for r in keys.to_dicts()] == [(14, ["b"]), (21, ["c"])]


def test_session_rows_end_with_the_first_purchase() -> None:
    events = log(
        (0.0, "s1", "view_item", "a", None),
        (0.1, "s1", "view_item", "b", None),
        (0.2, "s1", "purchase", "b", None),
        (0.3, "s1", "view_item", "c", None),
        (1.0, "s2", "view_item", "a", None),
    )
    keys = purchase_keys(events, SESSIONS, ROWS, active_days=90)
    assert [(r["user_id"], r["label"]) for r in keys.to_dicts()] == [("s1", 1.0), ("s1", 1.0), ("s2", 0.0)]
    assert all(r["time"].microsecond == 1 for r in keys.to_dicts()), "asked just after the event"
    following = next_item_keys(events, SESSIONS, ROWS, active_days=90)
    assert [r["targets"] for r in following.to_dicts()] == [["b"], ["b"], ["c"]]


def received_late(events: pl.DataFrame, row: int, days: float) -> pl.DataFrame:
    """The same events, of which one is received some days after the start."""
    late = pl.int_range(pl.len()) == row
    return events.with_columns(ingested_at=pl.when(late).then(START + timedelta(days=days)).otherwise("ingested_at"))


@pytest.mark.parametrize(
    ("late", "received", "expected"),
    [
        pytest.param(1, 0.4, [0.0], id="a view that arrives after the purchase gives no row"),
        pytest.param(2, 0.4, [0.0, 0.1], id="nor does a view between a purchase and its arrival"),
        pytest.param(1, 0.2, [0.0], id="nor one that arrives with the purchase"),
        pytest.param(1, 0.15, [0.0, 0.15], id="one that arrives before it does"),
    ],
)
def test_a_session_row_never_contains_the_purchase_it_predicts(late: int, received: float, expected: list) -> None:
    events = log(
        (0.0, "s1", "view_item", "a", None),
        (0.1, "s1", "view_item", "b", None),
        (0.2, "s1", "purchase", "b", None),
        (0.3, "s1", "view_item", "c", None),
    )
    keys = purchase_keys(received_late(events, late, received), SESSIONS, ROWS, active_days=90)
    assert [round(day(r["time"]), 6) for r in keys.to_dicts()] == expected
    assert keys["label"].to_list() == [1.0] * len(expected)


def test_every_split_is_limited() -> None:
    times = [START + timedelta(hours=k) for k in range(900)]
    keys = pl.DataFrame({"user_id": "ann", "time": times, "split": ["train", "validation", "test"] * 300})
    found = _limited(keys, 200, 150, seed=7, newest=False)
    assert dict(found.group_by("split").len().iter_rows()) == {"train": 200, "validation": 150, "test": 150}
    assert found.equals(_limited(keys, 200, 150, seed=7, newest=False))
    assert _limited(keys, 900, 900, seed=7, newest=False).height == 900
    newest = _limited(keys, 2, 150, seed=7, newest=True).filter(pl.col("split") == "train")
    assert newest["time"].to_list() == [times[894], times[897]]


def test_all_rows_of_a_session_are_in_one_split() -> None:
    events = log(*[(k / 3, f"s{k // 4}", "view_item", "a", None) for k in range(200)])
    keys = purchase_keys(events, SESSIONS, ROWS, active_days=90)
    assert keys.group_by("user_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(keys["split"]) == {"train", "validation", "test"}
    ends = keys.group_by("split").agg(pl.col("time").min().alias("first"))
    first = dict(ends.iter_rows())
    assert first["train"] < first["validation"] < first["test"]


def test_a_session_that_goes_on_for_weeks_gives_no_row_in_the_time_of_the_next_split() -> None:
    """Else the models learn, or count, what happened among the rows that they are tested on."""
    events = log(
        *[(k / 3, f"s{k // 4}", "view_item", "a", None) for k in range(200)],
        *[(k, "long", "view_item", "a", None) for k in range(1, 70)],
    )
    keys = purchase_keys(events, SESSIONS, ROWS, active_days=90)
    edges = {s: (g["time"].min(), g["time"].max()) for (s,), g in keys.partition_by("split", as_dict=True).items()}
    assert edges["train"][1] < edges["validation"][0]
    assert edges["validation"][1] < edges["test"][0]
    assert "long" in set(keys.filter(pl.col("split") == "train")["user_id"])


def test_too_little_data_raises() -> None:
    events = log((0, "ann", "purchase", "a", "1"))
    short = {**DATASET, "high_water": (START + timedelta(days=40)).isoformat()}
    weekly = ROWS.model_copy(update={"every": "week"})
    with pytest.raises(ModelError, match="3 cut-offs, 7 days apart from 2024-01-01 to 2024-02-10, are too few"):
        purchase_keys(events, short, weekly, active_days=90)
    blink = {**DATASET, "high_water": (START + timedelta(seconds=10)).isoformat()}
    with pytest.raises(ModelError, match="must last for at least 11 seconds, to be split by time; it lasts for 10"):
        purchase_keys(events, blink, ROWS, active_days=90)


def ends_after(length: timedelta) -> dict[str, str]:
    return {**DATASET, "high_water": (START + length).isoformat()}


@pytest.mark.parametrize(
    ("every", "length", "step", "horizon"),
    [
        # Warm-up 2, training 1, validation 2, test 2, of which the last looks a horizon of 1 ahead: 7 weeks.
        pytest.param("auto", timedelta(weeks=7), timedelta(weeks=1), timedelta(weeks=1), id="just long enough"),
        # Of a shorter log as many cut-offs are for training as are held out, 4: a part of 11, in whole hours.
        pytest.param(
            "auto", timedelta(weeks=6), timedelta(hours=91), timedelta(hours=91), id="an eleventh of six weeks"
        ),
        pytest.param("auto", timedelta(days=9), timedelta(hours=19), timedelta(hours=19), id="nine days"),
        pytest.param("auto", timedelta(hours=2), timedelta(minutes=10), timedelta(minutes=10), id="two hours"),
        pytest.param("day", timedelta(days=9), timedelta(days=1), timedelta(days=1), id="days, as asked"),
        pytest.param("day", timedelta(weeks=30), timedelta(days=1), timedelta(days=1), id="days of a long log"),
    ],
)
def test_the_step_between_cut_offs_follows_the_length_of_the_log(every, length, step, horizon) -> None:
    found = Timeline.of(ends_after(length), ROWS.model_copy(update={"every": every}))
    assert (found.step, found.horizon) == (step, horizon)
    assert found.cutoffs["time"][0] == START + length - horizon
    assert found.cutoffs["time"][-1] >= START + 2 * step, "after the warm-up"
    assert set(found.cutoffs["time"].diff().drop_nulls()) == {-step}
    assert found.cutoffs["split"].head(5).to_list() == ["test", "test", "validation", "validation", "train"]


def test_rows_of_two_hours_see_no_label_and_share_no_label_window() -> None:
    minute = 1 / 24 / 60
    events = log(*[(k * minute, f"u{k % 7}", "purchase" if k % 3 else "view_item", "a", str(k)) for k in range(120)])
    keys = purchase_keys(events, ends_after(timedelta(hours=2)), ROWS, active_days=90, seed=7)
    horizon = timedelta(minutes=10)
    edges = {s: (g["time"].min(), g["time"].max()) for (s,), g in keys.partition_by("split", as_dict=True).items()}
    assert edges["train"][1] + horizon <= edges["validation"][0]
    assert edges["validation"][1] + horizon <= min(edges["test"][0], edges["served"][0])
    assert max(edges["test"][1], edges["served"][1]) + horizon <= START + timedelta(hours=2)
    bought = events.filter(pl.col("event_name") == "purchase")
    for user, time, label in keys.select("user_id", "time", "label").iter_rows():
        own = bought.filter(pl.col("user_id") == user)["event_time"]
        assert label == own.is_between(time, time + horizon, closed="left").any()
    assert 0 < keys["label"].mean() < 1


def test_served_rows_ask_about_everybody_at_any_hour() -> None:
    """Ann buys daily, Bob bought once and lapsed, Cy comes in the last test week, and Dan is known too late."""
    rows = ROWS.model_copy(update={"test_weeks": 4, "warmup_weeks": 0})
    events = log(
        *[(k, "ann", "purchase", "a", f"a{k}") for k in range(70)],
        *[(k / 100, f"bob{k}", "purchase", "b", f"b{k}") for k in range(40)],
        (58, "cy", "view_item", "a", None),
        (66, "dan", "view_item", "a", None),
    )
    keys = purchase_keys(events, DATASET, rows, active_days=30, seed=7)
    served = keys.filter(pl.col("split") == "served")
    first, last = START + timedelta(days=42), START + timedelta(days=63)
    assert served["time"].is_between(first, last).all()
    assert {user: served.filter(pl.col("user_id") == user).height for user in ("ann", "bob0", "bob39", "dan")} == {
        **dict.fromkeys(("ann", "bob0", "bob39"), 4),
        "dan": 0,
    }
    cy = served.filter(pl.col("user_id") == "cy")
    assert (cy["time"] > START + timedelta(days=58)).all(), "not before anybody knew Cy"
    assert served["time"].dt.hour().n_unique() > 20
    assert set(served["time"].dt.weekday()) == {1, 2, 3, 4, 5, 6, 7}
    assert served.group_by("user_id").agg(pl.col("label").mean()).sort("user_id")["label"].to_list()[:2] == [1.0, 0.0]
    weekly = keys.filter(pl.col("split") != "served")
    assert weekly.equals(purchase_keys(events, DATASET, rows, active_days=30)), "the other rows stay as they are"
    assert not any(name.startswith("bob") for name in weekly.filter(pl.col("split") == "test")["user_id"])


def test_lapsed_users_are_learned_from_if_asked() -> None:
    events = log((1, "ann", "purchase", "a", "1"), *[(k, "bob", "purchase", "b", f"b{k}") for k in range(70)])
    active, all_known = (
        purchase_keys(events, DATASET, ROWS.model_copy(update={"lapsed": lapsed}), active_days=21)
        for lapsed in (False, True)
    )
    assert [day(time) for time in active.filter(pl.col("user_id") == "ann")["time"]] == [14, 21]
    added = all_known.join(active, on=["user_id", "time"], how="anti")
    assert [(user, day(time), split) for user, time, split, _ in added.iter_rows()] == [
        ("ann", 28, "train"),
        ("ann", 35, "train"),
    ]


def test_a_moment_depends_on_user_and_seed_alone() -> None:
    events = log(*[(k, name, "purchase", "a", f"{name}{k}") for k in range(0, 70, 3) for name in ("ann", "bob")])

    def served(events: pl.DataFrame, seed: int) -> list:
        keys = purchase_keys(events, DATASET, ROWS, active_days=90, seed=seed)
        return keys.filter((pl.col("split") == "served") & (pl.col("user_id") == "ann"))["time"].to_list()

    assert served(events, 7) == served(events.filter(pl.col("user_id") == "ann"), 7)
    assert served(events, 7) != served(events, 8)


def test_the_next_item_of_a_log_without_purchases_is_that_of_the_next_session() -> None:
    events = log(
        (1, "ann", "view_item", "z", "1"),
        (14.1, "ann", "search", None, "2"),
        (14.2, "ann", "remove_from_cart", "y", "2"),
        (15, "ann", "view_item", "c", "3"),
        (15.01, "ann", "add_to_cart", "b", "3"),
        (16, "ann", "view_item", "d", "4"),
    )
    keys = next_item_keys(events, DATASET, ROWS, active_days=90)
    assert [(day(r["time"]), r["targets"]) for r in keys.to_dicts()] == [(14, ["b", "c"])]
    bought = log(
        (1, "ann", "view_item", "z", "1"), (15, "ann", "view_item", "c", "3"), (60, "bob", "purchase", "a", "5")
    )
    assert next_item_keys(bought, DATASET, ROWS, active_days=90)["user_id"].to_list() == [], "one purchase is enough"


def test_label_windows_of_two_splits_do_not_overlap() -> None:
    rows = ROWS.model_copy(update={"horizon_days": 10, "warmup_weeks": 0})
    events = log(*[(k, "ann", "purchase", "a", str(k)) for k in range(70)])
    keys = purchase_keys(events, DATASET, rows, active_days=90)
    edges = {s: (g["time"].min(), g["time"].max()) for (s,), g in keys.partition_by("split", as_dict=True).items()}
    horizon = timedelta(days=10)
    assert edges["train"][1] + horizon <= edges["validation"][0]
    assert edges["validation"][1] + horizon <= edges["test"][0]


def test_missing_features_stage_raises(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"validated/dataset\.json.*must exist.*Run `dvc repro features`"):
        build_rows("purchase", load_params(root / "params.yaml"), tmp_path)
