"""What senders say, against the contract: good events as they are, bad ones with the reasons that a file's rows get."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from events.collector.incoming import read_json_body, read_lines, read_one

GOOD = {
    "event_id": "e1",
    "event_time": "2026-11-25T09:00:00.000001+02:00",
    "event_name": "purchase",
    "user_id": "ann",
    "item_id": " bread ",
    "quantity": 2,
    "price": 1.25,
    "amount": 2.5,
}


def sent(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_a_good_event_keeps_what_it_says_and_nothing_is_thrown_away() -> None:
    one = read_one(sent(coupon="X1", depth={"a": [1]}, session_id="", rating=None, attributes={"lang": "de"}))
    assert one.reasons == ()
    assert one.event["event_time"] == datetime(2026, 11, 25, 7, 0, 0, 1, tzinfo=UTC)
    assert (one.event["item_id"], one.event["quantity"]) == ("bread", 2.0)
    assert "session_id" not in one.event
    assert "rating" not in one.event
    assert one.event["attributes"] == [
        {"key": "coupon", "value": "X1"},
        {"key": "depth", "value": '{"a":[1]}'},
        {"key": "lang", "value": "de"},
    ]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"event_time": None}, ("event_time_missing",)),
        ({"event_time": ""}, ("event_time_missing",)),
        ({"event_time": "yesterday"}, ("event_time_not_a_time",)),
        ({"event_time": "2026-11-25T09:00:00"}, ("event_time_without_time_zone",)),
        ({"event_time": "1969-12-31T23:59:59Z"}, ("event_time_not_a_time",)),
        ({"event_time": "2026-13-45T00:00:00Z"}, ("event_time_not_a_time",)),
        ({"event_name": None}, ("event_name_missing",)),
        ({"event_name": "buy"}, ("event_name_unknown",)),
        ({"user_id": None}, ("who_missing",)),
        ({"user_id": "  "}, ("who_missing",)),
        ({"user_id": 900}, ("user_id_not_text",)),
        ({"user_id": ["a"]}, ("user_id_not_text",)),
        ({"text": "x" * 70_000}, ("text_too_long",)),
        ({"price": "1.25"}, ("price_not_a_number",)),
        ({"price": True}, ("price_not_a_number",)),
        ({"price": float("inf")}, ("price_not_a_number",)),
        ({"position": 1.5}, ("position_not_a_number",)),
        ({"position": 2**31}, ("position_not_a_number",)),
        ({"price": [], "event_name": "buy"}, ("event_name_unknown", "price_not_a_number")),
    ],
)
def test_a_bad_event_has_its_reasons_and_is_kept_as_sent(changes: dict[str, Any], reasons: tuple[str, ...]) -> None:
    one = read_one(sent(**changes))
    assert (one.reasons, one.event) == (reasons, {})
    assert json.loads(one.raw) == {**GOOD, **changes}
    assert one.problem.startswith(reasons[0].split("_")[0]) or reasons == ("who_missing",)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"event_id": "\xff"}', "not_json"),
        (b"[" * 5_000, "not_json"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
    ],
)
def test_what_is_no_event_at_all(raw: bytes, reason: str) -> None:
    one = read_one(raw)
    assert one.reasons[0] == reason
    assert one.raw


def test_an_event_without_an_id_gets_the_same_one_every_time() -> None:
    first, again = read_one(sent(event_id=None)), read_one(sent(event_id="", session_id="s7", ingested_at=None))
    other = read_one(sent(event_id=None, amount=2.6))
    assert first.event["event_id"] == again.event["event_id"] != other.event["event_id"]
    assert not first.has_id
    same_moment = read_one(sent(event_id=None, event_time="2026-11-25T07:00:00.000001Z"))
    assert same_moment.event["event_id"] == first.event["event_id"]


def test_a_bad_event_takes_no_good_one_with_it() -> None:
    good, bad = sent(), sent(event_id="e2", price="?")
    for body in (b"[%s,%s,7]" % (good, bad), b'{"events": [%s,%s,7]}' % (good, bad)):
        assert [one.reasons for one in read_json_body(body)] == [(), ("price_not_a_number",), ("not_an_object",)]
    lines = read_lines(b"%s\r\n\n%s\n7" % (good, bad))
    assert [one.reasons for one in lines] == [(), ("price_not_a_number",), ("not_an_object",)]
    assert [one.reasons for one in read_json_body(good)] == [()]
    assert [one.reasons for one in read_json_body(b"[%s" % good)] == [("not_json",)]
    assert read_json_body(b"[]") == []
