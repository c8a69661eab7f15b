"""Visit features: by hand, against a naive oracle, and the same bits alone and among others."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.catalogue import Catalogue
from features.histories import Histories, UserLog
from features.recent import EVENT_CODES
from features.visits import VISIT_DESCRIPTIONS, VISIT_FEATURES, visit_features
from tests.features.naive_visits import naive_visit_features

NOW = datetime(2024, 3, 1, 4, tzinfo=UTC)
CATALOGUE = Catalogue(pl.DataFrame({"item_index": [2], "item_id": ["a"]}))


def log_of(*events: tuple) -> UserLog:
    """A log of (user, days ago, name, money), and optionally the days ago that an event became known."""
    times = [NOW - timedelta(days=one[1]) for one in events]
    frame = pl.DataFrame(
        {
            "user_id": [one[0] for one in events],
            "event_id": [f"e{k:06}" for k in range(len(events))],
            "event_time": times,
            "ingested_at": [NOW - timedelta(days=one[4] if len(one) > 4 else one[1]) for one in events],
            "event_name": [one[2] for one in events],
            "item_id": ["a"] * len(events),
            "quantity": [1.0] * len(events),
            "amount": [one[3] for one in events],
            "order_id": [None] * len(events),
            "session_id": ["s"] * len(events),
        },
        schema_overrides={"order_id": pl.String, "event_time": pl.Datetime("us", "UTC"), "amount": pl.Float64}
        | {"ingested_at": pl.Datetime("us", "UTC")},
    )
    return UserLog.from_events(frame, CATALOGUE)


def moments(*days_ago: float) -> np.ndarray:
    return np.array([(NOW - timedelta(days=one)).replace(tzinfo=None) for one in days_ago], dtype="datetime64[us]")


def features_of(log: UserLog, user: str = "ann", days_ago: float = 0.0, n: int = 1000) -> dict[str, float]:
    now = moments(days_ago)
    return {name: float(values[0]) for name, values in visit_features(log.as_of([user], now, n), now).items()}


def test_a_person_who_buys_every_tenth_day() -> None:
    log = log_of(*[("ann", 10.0 * k + 3.5, "purchase", 5.0) for k in range(9)])
    found = features_of(log)
    assert found["buy_days_since"] == pytest.approx(3.5)
    assert found["buy_gap_mean"] == found["buy_gap_median"] == found["buy_gap_2"] == pytest.approx(10)
    assert found["buy_gap_deviation"] == pytest.approx(0, abs=1e-6)
    assert found["buy_age_to_median"] == pytest.approx(3.5 / 10.05)
    # Every gap outlasted 3.5 days and ended within a week of that: (8 + 2 p) / (8 + 2).
    assert found["buy_longer_share"] == 1
    assert found["buy_hazard"] == pytest.approx((8 + 2 * (1 - np.exp(-found["buy_rate_90d"]))) / 10)
    assert found["buy_covered_365d"] == pytest.approx(0.7, abs=0.03), "seven of ten days"
    assert found["buy_spend_mean"] == 5
    assert found["buy_rate_365d"] == pytest.approx(0.7, abs=0.1)
    assert (found["buy_weeks_on"], found["buy_weeks_off"]) == (2, 0)  # 3.5 and 13.5 days ago; none from 14 to 21


def test_receipts_of_one_evening_are_one_visit() -> None:
    log = log_of(
        ("ann", 9.0, "purchase", 4.0),
        ("ann", 8.9, "purchase", 6.0),
        ("ann", 2.0, "view_item", 0.0),
        ("ann", 1.0, "purchase", 2.0),
    )
    found = features_of(log)
    assert (found["buy_spend_mean"], found["buy_lines_mean"]) == (6.0, 1.5)
    assert found["buy_gap_1"] == pytest.approx(8)
    assert found["visit_gap_median"] == pytest.approx(1)  # of 7 and 1, the lower
    assert found["visit_buying_share"] == pytest.approx(2 / 3)


def test_who_only_looks_has_visits_and_no_buying_visit() -> None:
    found = features_of(log_of(("ann", 5.0, "view_item", 0.0), ("ann", 1.0, "add_to_cart", 3.0)))
    assert (found["visits_since_buying"], found["buy_rate_90d"], found["buy_week_1"]) == (2, 0, 0)
    assert np.isnan(found["buy_days_since"])
    assert np.isnan(found["buy_hazard"])
    assert found["visit_days_since"] == pytest.approx(1)


def test_nobody_and_nothing_give_missing_not_a_number_that_looks_measured() -> None:
    found = features_of(log_of(("ann", 1.0, "purchase", 2.0)), user="nobody")
    for name in (
        "buy_days_since",
        "buy_gap_mean",
        "buy_hazard",
        "buy_covered_90d",
        "buy_spend_mean",
        "visit_gap_median",
    ):
        assert np.isnan(found[name]), name
    assert found["buy_rate_7d"] == 0
    assert visit_features(log_of().as_of([], moments(), 5), moments())["buy_gap_mean"].shape == (0,)


def test_only_the_last_n_events_and_only_what_is_known_count() -> None:
    log = log_of(
        ("ann", 60.0, "purchase", 1.0),
        ("ann", 40.0, "purchase", 1.0, 5.0),  # known five days ago
        ("ann", 30.0, "purchase", 1.0),
        ("ann", 10.0, "purchase", 1.0),
    )
    assert features_of(log)["buy_gap_mean"] == pytest.approx((20 + 10 + 20) / 3)
    assert features_of(log, days_ago=6.0)["buy_gap_mean"] == pytest.approx((30 + 20) / 2)
    assert features_of(log, n=2)["buy_gap_mean"] == pytest.approx(20)
    assert features_of(log, n=2)["buy_weeks_26"] == pytest.approx(1 / 4), "four weeks on record, one of them with one"


def random_log(users: int) -> UserLog:
    """Visits in irregular rhythms, with views between them; some events become known late."""
    random = np.random.default_rng(11)
    events = []
    for user in range(users):
        age, pace = 0.2, random.uniform(0.3, 12)
        while age < random.uniform(5, 220):
            for _ in range(random.integers(1, 4)):
                name = "purchase" if random.random() < 0.6 else "view_item"
                late = random.random() < 0.03
                known = max(age - random.uniform(0, 20), 0.0) if late else age
                events.append((f"u{user}", age, name, float(random.integers(1, 999)) / 100, known))
                age += random.exponential(0.1)
            age += random.exponential(pace)
    return log_of(*events)


@pytest.fixture(scope="module")
def asked() -> tuple[UserLog, list[str], np.ndarray, Histories]:
    log = random_log(30)
    users = [f"u{k}" for k in range(30) for _ in range(3)]
    now = moments(*[days for _ in range(30) for days in (0.0, 9.5, 40.0)])
    return log, users, now, log.as_of(users, now, 60)


def test_every_feature_equals_the_naive_oracle(asked: tuple) -> None:
    _, _, now, history = asked
    found = visit_features(history, now)
    names = {code: name for name, code in EVENT_CODES.items()}
    for row in range(0, len(history), 2):
        part = slice(history.begin[row], history.end[row])
        seconds = history.log.event_time[part].astype(np.int64) / 1e6
        events = [
            (float(second), names[code], float(money))
            for second, code, money in zip(seconds, history.log.event_code[part], history.log.amount[part], strict=True)
        ]
        expected = naive_visit_features(events, float(now[row].astype(np.int64) / 1e6))
        assert set(expected) == set(VISIT_FEATURES)
        for name, value in expected.items():
            rel = 5e-3 if "covered" in name else 1e-4  # the oracle adds up small steps
            assert found[name][row] == pytest.approx(value, rel=rel, abs=1e-4, nan_ok=True), (name, row)


def test_a_row_gives_the_same_bits_alone_and_among_others(asked: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    log, users, now, history = asked
    together = visit_features(history, now)
    shuffled = np.random.default_rng(3).permutation(len(now))
    again = visit_features(history.take(shuffled), now[shuffled])
    monkeypatch.setattr("features.visits._ROWS", 7)
    in_parts = visit_features(history, now)
    for name in VISIT_FEATURES:
        assert again[name].tobytes() == together[name][shuffled].tobytes(), name
        assert in_parts[name].tobytes() == together[name].tobytes(), name
    for row in range(len(now)):
        alone = visit_features(log.as_of([users[row]], now[row : row + 1], 60).compact(), now[row : row + 1])
        for name in VISIT_FEATURES:
            assert alone[name].tobytes() == together[name][row : row + 1].tobytes(), (name, row)


def test_every_feature_varies_and_ends_its_description_with_a_unit(asked: tuple) -> None:
    _, _, now, history = asked
    for name, values in visit_features(history, now).items():
        assert np.nanstd(values) > 0, name
        assert VISIT_DESCRIPTIONS[name].endswith(")."), name
