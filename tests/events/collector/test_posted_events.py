"""Posted events against the contract: good ones unchanged, bad ones with the reasons that the rows of a file get."""

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.collector.records import attribute_text, parse_body, parse_event
from events.transform.columns import attributes, scalar_columns

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


def test_a_good_event_keeps_all_its_fields() -> None:
    one = parse_event(sent(coupon="X1", depth={"a": [1]}, session_id="", rating=None, attributes={"lang": "de"}))
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
        ({"event_time": "1994-12-31T23:59:59Z"}, ("event_time_implausible",)),
        ({"event_time": "2200-01-01T00:00:01Z"}, ("event_time_implausible",)),
        ({"event_time": "20261127"}, ("event_time_not_a_time",)),
        ({"event_time": "45123.5"}, ("event_time_not_a_time",)),
        ({"event_time": "1795770000"}, ("event_time_not_a_time",)),
        ({"event_time": 1_795_770_000}, ("event_time_not_a_time",)),
        ({"event_time": "2026-11-27"}, ("event_time_not_a_time",)),
        ({"event_time": "20261127T090000Z"}, ("event_time_not_a_time",)),
        ({"event_time": "2026-11-27T09:00Z"}, ("event_time_not_a_time",)),
        ({"event_time": "2026-11-27T09:00:00+0100"}, ("event_time_not_a_time",)),
        ({"event_time": "2026-11-27T24:30:00Z"}, ("event_time_not_a_time",)),
        ({"ingested_at": "20261127"}, ("ingested_at_not_a_time",)),
        ({"event_time": "2026-13-45T00:00:00Z"}, ("event_time_not_a_time",)),
        ({"event_name": None}, ("event_name_missing",)),
        ({"event_name": "buy"}, ("event_name_unknown",)),
        ({"user_id": None}, ("who_missing",)),
        ({"user_id": "  "}, ("who_missing",)),
        ({"user_id": 900}, ("user_id_not_text",)),
        ({"user_id": ["a"]}, ("user_id_not_text",)),
        ({"user_id": "x" * 257}, ("user_id_too_long",)),
        ({"user_id": "ann\u0000"}, ("user_id_with_control_character",)),
        ({"anonymous_id": "a\nb"}, ("anonymous_id_with_control_character",)),
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
    one = parse_event(sent(**changes))
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
def test_what_is_not_an_event(raw: bytes, reason: str) -> None:
    one = parse_event(raw)
    assert one.reasons[0] == reason
    assert one.raw


def test_an_event_without_an_id_gets_the_same_one_every_time() -> None:
    first, again = parse_event(sent(event_id=None)), parse_event(sent(event_id="", session_id="s7", ingested_at=None))
    other = parse_event(sent(event_id=None, amount=2.6))
    assert first.event["event_id"] == again.event["event_id"] != other.event["event_id"]
    assert parse_event(sent(event_id=None), "place").event["event_id"] == "place"
    assert parse_event(sent(), "place").event["event_id"] == "e1"
    same_moment = parse_event(sent(event_id=None, event_time="2026-11-25T07:00:00.000001Z"))
    assert same_moment.event["event_id"] == first.event["event_id"]


def test_a_bad_event_takes_no_good_one_with_it() -> None:
    good, bad = sent(), sent(event_id="e2", price="?")
    for body in (b"[%s,%s,7]" % (good, bad), b'{"events": [%s,%s,7]}' % (good, bad)):
        assert [one.reasons for one in parse_body(body)] == [(), ("price_not_a_number",), ("not_an_object",)]
    lines = parse_body(b"%s\r\n\n%s\n7" % (good, bad))
    assert [one.reasons for one in lines] == [(), ("price_not_a_number",), ("not_an_object",)]
    infinite = parse_body(b"[%s]" % sent(price=float("inf")))
    assert [(one.reasons, json.loads(one.raw)["price"]) for one in infinite] == [
        (("price_not_a_number",), float("inf"))
    ]
    assert [one.reasons for one in parse_body(good)] == [()]
    assert [one.reasons for one in parse_body(b"[%s" % good)] == [("not_json",)]
    assert parse_body(b"[]") == []


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        ("2026-11-27T09:00:00Z", datetime(2026, 11, 27, 9, tzinfo=UTC)),
        ("2026-11-27t09:00:00z", datetime(2026, 11, 27, 9, tzinfo=UTC)),
        ("2026-11-27 09:00:00.25-02:30", datetime(2026, 11, 27, 11, 30, 0, 250_000, tzinfo=UTC)),
        ("2026-11-27T09:00:00.123456789+00:00", datetime(2026, 11, 27, 9, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_times_are_those_of_rfc_3339(time: str, moment: datetime) -> None:
    assert parse_event(sent(event_time=time)).event["event_time"] == moment


def test_ids_of_people_are_those_that_the_service_can_be_asked_about() -> None:
    """What the collector takes, the service takes, and the other way round."""
    from pydantic import TypeAdapter, ValidationError

    from serving.schemas import UserId

    service: TypeAdapter[str] = TypeAdapter(UserId)
    for person in ("a", "ann@shop.example", "ü" * 256, "0 1", "x" * 257, "a\tb", "\x7f", "a\x1fb", "a\u2028b"):
        try:
            asked = service.validate_python(person) == person
        except ValidationError:
            asked = False
        assert (parse_event(sent(user_id=person)).reasons == ()) == asked, repr(person)


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (b"%s\n%s\n", [(), ()]),
        (b"%s\n{\n%s", [(), ("not_json",), ()]),
        (b"{\n%s", [("not_json",), ()]),
        (b"[%s,\n%s]", [(), ()]),
        (b"[%s,\n%s", [("not_json",)]),
    ],
)
def test_ndjson_is_known_by_its_content(body: bytes, reasons: list[tuple[str, ...]]) -> None:
    events = [sent(event_id=name) for name in ("a", "b")][: body.count(b"%s")]
    assert [one.reasons for one in parse_body(body % tuple(events))] == reasons


_JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('aé "{', max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.fixed_dictionaries({"x": _JSON}), min_size=1, max_size=1))
@settings(max_examples=60, deadline=None)
def test_attributes_are_spelled_as_in_a_file(records: list[dict[str, Any]]) -> None:

    frame = pl.read_ndjson(b"\n".join(json.dumps(one).encode() for one in records), infer_schema_length=None)
    if "x" not in frame.columns:  # {} alone has no column
        return
    pairs = attributes(scalar_columns(frame), ["x"]).to_list()
    texts = [attribute_text(one["x"]) for one in records]
    assert [one[0]["value"] if one else None for one in pairs] == texts


def test_a_whole_number_is_one_content_live_and_from_a_file() -> None:
    texts = [
        attribute_text(value) for value in (2.0, 2, {"b": 2.0, "a": None, "c": [1.0, 1.5]}, "2.0", float("nan"), " ")
    ]
    assert texts == ["2", "2", '{"b":2,"c":[1,1.5]}', "2.0", None, None]
