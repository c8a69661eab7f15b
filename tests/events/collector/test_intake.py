"""Verdicts: what is on disk when they are given, and what is not taken twice."""

import json
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from events.collector.intake import Verdict
from events.collector.records import Incoming, parse_body
from shoplens.errors import CollectorBusyError
from tests.events.collector.conftest import Taking, event


def read(*events: dict[str, Any]) -> list[Incoming]:
    return parse_body(json.dumps(events).encode())


def statuses(verdicts: list[Verdict]) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.status, one.reasons) for one in verdicts]


def test_each_event_has_its_verdict_and_its_place(taking: Taking) -> None:
    verdicts = taking.intake.take(
        read(
            event("a"),
            event("b", price=-1.0),
            event("a"),  # the same again
            event("a", item_id="milk"),  # the same id, something else
            event("c", minute=60 * 24 * 8),  # a week is as far as events may run ahead of frozen data
            {"event_id": "d"},
            event("e", minute=60 * 24 * 7),
        )
    )
    assert statuses(verdicts) == [
        ("accepted", ()),
        ("quarantined", ("price_negative",)),
        ("duplicate", ()),
        ("quarantined", ("event_id_with_other_content",)),
        ("quarantined", ("event_time_in_future",)),
        ("quarantined", ("event_time_missing", "event_name_missing", "who_missing")),
        ("accepted", ()),
    ]
    events, aside = taking.tables()
    assert events["event_id"].to_list() == ["a", "e"]
    assert [reasons[0] for reasons in aside["reasons"].to_list()] == [
        "price_negative",
        "event_id_with_other_content",
        "event_time_in_future",
        "event_time_missing",
    ]
    assert json.loads(aside["raw"][1])["item_id"] == "milk"
    corrected = taking.intake.take(read(event("b", price=1.0), event("c")))
    assert statuses(corrected) == [("accepted", ()), ("accepted", ())]


def test_a_collector_that_starts_again_knows_what_it_took(tmp_path: Path) -> None:
    taking = Taking(tmp_path / "log")
    taking.intake.take(read(event("a"), event("b", minute=20)))
    taking.close()
    again = Taking(tmp_path / "log")
    assert statuses(again.intake.take(read(event("a"), event("c", minute=45)))) == [("duplicate", ()), ("accepted", ())]
    events, _ = again.tables()
    assert events["session_id"].n_unique() == 1, "the session goes on: 25 idle minutes"
    again.close()


def test_sessions_end_after_thirty_idle_minutes_and_late_events_join_theirs(taking: Taking) -> None:
    first = int(datetime(2026, 11, 25, 10, tzinfo=UTC).timestamp())
    taking.intake.take(
        read(
            event("a"),
            event("b", minute=30),
            event("c", minute=60.1),
            event("d", minute=70, session_id="own"),
            event("e", minute=75),
            event("f", minute=-20),  # late, and before all: a session of its own that the newer one outlives
            event("g", minute=80),
            event("h", minute=1, user_id=None, anonymous_id="x"),
        )
    )
    events, _ = taking.tables()
    names = dict(events.select("event_id", "session_id").iter_rows())
    assert names == {
        "a": f"ann-{first}",
        "b": f"ann-{first}",
        "c": f"ann-{first + 3606}",
        "d": "own",
        "e": "own",
        "f": f"ann-{first - 1200}",
        "g": "own",
        "h": f"x-{first + 60}",
    }


def test_on_the_data_clock_an_event_states_when_it_was_received(taking: Taking) -> None:
    late = "2026-11-25T11:30:00+00:00"
    taking.intake.take(read(event("a"), event("b", minute=1, ingested_at=late)))
    events, _ = taking.tables()
    assert events["ingested_at"].to_list() == [
        datetime(2026, 11, 25, 10, tzinfo=UTC),
        datetime(2026, 11, 25, 11, 30, tzinfo=UTC),
    ]


def test_on_the_data_clock_an_event_may_not_be_received_in_the_far_future(taking: Taking) -> None:
    (verdict,) = taking.intake.take(read(event("a", ingested_at="2099-01-01T00:00:00+00:00")))
    assert (verdict.status, verdict.reasons) == ("quarantined", ("event_time_in_future",))
    assert verdict.problem.startswith("ingested_at: must not be after 2026-12-02T12:00:00")


def test_on_the_wall_clock_an_event_is_received_now(tmp_path: Path) -> None:
    taking, before = Taking(tmp_path / "log", now_of_data=None), datetime.now(UTC)
    ahead = before + timedelta(seconds=30)  # a sender's clock is a little fast: nothing is received before it happens
    times = {"a": before - timedelta(days=1), "b": ahead, "c": before + timedelta(seconds=75)}
    sent = [event(name, event_time=when.isoformat(), ingested_at=when.isoformat()) for name, when in times.items()]
    found = statuses(taking.intake.take(read(*sent)))
    assert found == [("accepted", ()), ("accepted", ()), ("quarantined", ("event_time_in_future",))]
    came, later = taking.tables()[0]["ingested_at"]
    assert before <= came <= datetime.now(UTC)
    assert later == ahead
    taking.close()


def test_a_batch_holds_many_requests_and_each_gets_its_own_verdicts(taking: Taking) -> None:
    answers: list[Future[list[Verdict]]] = [
        taking.batcher.submit(partial(read, event(f"e{n % 40}"), event(f"f{n}", price=-1.0)), 100) for n in range(80)
    ]
    found = [statuses(answer.result(20)) for answer in answers]
    assert found[0] == [("accepted", ()), ("quarantined", ("price_negative",))]
    assert [one[0][0] for one in found] == ["accepted"] * 40 + ["duplicate"] * 40
    events, aside = taking.tables()
    assert (events.height, aside.height) == (40, 80)


def test_beyond_what_fits_senders_are_asked_to_retry_and_nothing_is_lost(tmp_path: Path) -> None:
    import threading

    gate = threading.Event()
    taking = Taking(tmp_path / "log", take=lambda incoming: gate.wait(20) and taking.intake.take(incoming))
    taking.batcher._limit = 250
    held = [taking.batcher.submit(partial(read, event(f"e{n}")), 100) for n in range(2)]
    with pytest.raises(CollectorBusyError, match="200 bytes are queued, and 250 may be"):
        taking.batcher.submit(partial(read, event("e2")), 100)
    gate.set()
    assert [one.result(20)[0].status for one in held] == ["accepted", "accepted"]
    assert taking.batcher.submit(partial(read, event("e2")), 100).result(20)[0].status == "accepted"
    taking.close()


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(taking: Taking) -> None:
    """A batch of Kafka's messages cannot be sent again in parts."""
    assert taking.batcher.submit(partial(read, event("a")), 65 << 20).result(20)[0].status == "accepted"


@pytest.mark.parametrize(
    ("outage", "message"),
    [
        ("PRAGMA max_page_count = 1", "database or disk is full"),
        ("PRAGMA query_only = ON", "attempt to write a readonly"),
    ],
)
def test_a_full_or_read_only_disk_takes_nothing_and_is_logged_once(
    taking: Taking, outage: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = {"text": "x" * 60_000}
    taking.log._writer.execute(outage)
    for _ in range(3):
        with pytest.raises(OSError, match=message):
            taking.batcher.submit(partial(read, event("a", **first)), 10).result(20)
    assert taking.log.end == 0
    taking.log._writer.execute("PRAGMA query_only = OFF")
    taking.log._writer.execute("PRAGMA max_page_count = 1000000")
    assert taking.batcher.submit(partial(read, event("a", **first)), 10).result(20)[0].status == "accepted"
    logged = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert [level for level, _ in logged] == ["ERROR", "WARNING"]
    assert logged[0][1].startswith(f"log: cannot be written ({message}")
    assert not any(one.exc_info for one in caplog.records), "no traceback"


def test_a_rejected_version_does_not_occupy_its_id(taking: Taking) -> None:
    """One ID, in one request: bad, bad again, good, good again, bad."""
    bad, good = event("a", price=-1.0), event("a", price=1.0)
    expected = [
        ("quarantined", ("price_negative",)),
        ("quarantined", ("price_negative",)),
        ("accepted", ()),
        ("duplicate", ()),
        ("quarantined", ("price_negative",)),
    ]
    assert statuses(taking.intake.take(read(bad, bad, good, good, bad))) == expected
    assert statuses(taking.intake.take(read(bad, good))) == [("quarantined", ("price_negative",)), ("duplicate", ())]
    events, quarantine = taking.tables()
    assert (events["event_id"].to_list(), events["price"].to_list()) == (["a"], [1.0])
    assert quarantine["row"].n_unique() == quarantine.height == 4


def test_amounts_follow_the_rule_of_files_and_do_not_make_other_content(taking: Taking) -> None:
    posted = [
        event("given", event_name="purchase", price=2.0, quantity=3, amount=5.0),
        event("product", event_name="purchase", price=2.5, quantity=3),
        event("one piece", event_name="purchase", price=2.5),
        event("refund", event_name="refund", price=2.5, quantity=2),
        event("unknown", event_name="purchase", quantity=2),
        event("nothing", event_name="purchase", price=2.5, quantity=0),
        event("view", price=2.5),
    ]
    taking.intake.take(read(*posted))
    events, _ = taking.tables()
    assert dict(events.select("event_id", "amount").iter_rows()) == {
        "given": 5.0,
        "product": 7.5,
        "one piece": 2.5,
        "refund": 5.0,
        "unknown": None,
        "nothing": None,
        "view": None,
    }
    again = taking.intake.take(
        read(*posted, event("product", event_name="purchase", price=2.5, quantity=3, amount=7.5))
    )
    assert {one.status for one in again} == {"duplicate"}


def test_a_cancelled_or_unreadable_request_does_not_end_the_intake(tmp_path: Path) -> None:
    import threading

    gate = threading.Event()
    taking = Taking(tmp_path / "log", take=lambda incoming: gate.wait(20) and taking.intake.take(incoming))
    held = taking.batcher.submit(partial(read, event("held")), 10)
    waiting = taking.batcher.submit(partial(read, event("gone")), 10)
    assert waiting.cancel()
    unreadable = taking.batcher.submit(lambda: 1 // 0, 10)  # type: ignore[arg-type, return-value]
    other = taking.batcher.submit(partial(read, event("other")), 10)
    while not held.running():
        pass
    assert not held.cancel(), "what is being written cannot be cancelled"
    gate.set()
    assert [one.result(20)[0].status for one in (held, other)] == ["accepted", "accepted"]
    with pytest.raises(ZeroDivisionError):
        unreadable.result(20)
    assert taking.batcher.submit(partial(read, event("later")), 10).result(20)[0].status == "accepted"
    assert taking.batcher._waiting == 0
    assert sorted(taking.tables()[0]["event_id"]) == ["held", "later", "other"]
    taking.close()


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (ValueError("a fault"), ValueError),
        (pl.exceptions.PanicException("a fault"), CollectorBusyError),
    ],
)
def test_what_cannot_be_decided_fails_alone(tmp_path: Path, fault: BaseException, failure: type[BaseException]) -> None:
    """A fault of ours meets one event of a batch: the requests beside it are answered."""

    def take(incoming: list[Incoming]) -> list[Verdict]:
        if any(one.event["event_id"] == "poison" for one in incoming):
            raise fault
        return taking.intake.take(incoming)

    import threading

    gate = threading.Event()
    taking = Taking(tmp_path / "log", take=lambda incoming: gate.wait(20) and take(incoming))
    answers = [taking.batcher.submit(partial(read, event(name)), 10) for name in ("first", "a", "poison", "b")]
    gate.set()
    with pytest.raises(failure, match="a fault"):
        answers.pop(2).result(20)
    assert [one.result(20)[0].status for one in answers] == ["accepted"] * 3
    taking.close()


def test_an_intake_that_dies_is_reported_and_starts_again(tmp_path: Path) -> None:
    deaths = iter([SystemExit("killed"), KeyboardInterrupt()])

    def take(incoming: list[Incoming]) -> list[Verdict]:
        for death in deaths:
            raise death
        return taking.intake.take(incoming)

    taking = Taking(tmp_path / "log", take=take)
    for name in ("SystemExit", "KeyboardInterrupt"):
        with pytest.raises(CollectorBusyError, match=f"stopped by {name} .* send it again later"):
            taking.batcher.submit(partial(read, event("a")), 10).result(20)
        assert str(taking.batcher.problem).startswith(f"intake: stopped by {name}")
    assert taking.batcher.submit(partial(read, event("a")), 10).result(20)[0].status == "accepted"
    assert taking.batcher.problem is None
    taking.close()
