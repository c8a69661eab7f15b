"""Calls of other trackers: what comes live is what comes from a file of the same records."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from events.cli import ingest
from events.collector.mapped import MappedReader
from events.collector.records import Incoming
from events.contract import EVENT_SCHEMA
from events.lake import freeze_lake
from events.mapping import load_mapping
from shoplens.errors import MappingError
from tests.events.collector.conftest import Taking, event
from tests.events.collector.test_http import served

pytestmark = pytest.mark.stores
ROOT = Path(__file__).resolve().parents[3]
SEGMENT = ROOT / "events/mappings/segment.yaml"


def call(message: str, name: str, **properties: Any) -> dict[str, Any]:
    """A track call by Ann on her phone."""
    return {
        "type": "track",
        "messageId": message,
        "timestamp": "2026-11-25T10:00:00.000Z",
        "receivedAt": "2026-11-25T10:00:01.000Z",
        "userId": "ann",
        "anonymousId": "a-1",
        "event": name,
        "context": {"page": {"url": "https://shop.example/"}, "device": {"type": "ios"}},
        "properties": properties,
    }


BREAD, MILK = {"product_id": "bread", "price": 2.5, "quantity": 3}, {"product_id": "milk", "price": 1, "quantity": 1}
CALLS = [
    call("m1", "Product Viewed", product_id="bread", price=2.0, coupon="X"),
    call("m2", "Order Completed", order_id="o1", currency="EUR", products=[BREAD, MILK]),
    call("m3", "Products Searched", query="rye", depth=2.0),
    call("m4", "Order Refunded", order_id="o1", products=[BREAD]),
    call("m5", "Something Else"),
    {**call("m6", "Product Viewed"), "timestamp": "soon"},
    {"type": "identify", **{k: v for k, v in call("m7", "").items() if k not in ("type", "event", "properties")}},
]


def from_file(folder: Path) -> pl.DataFrame:
    """The events of the same calls, ingested as a file."""
    (folder / "calls.jsonl").write_text("\n".join(map(json.dumps, CALLS)))
    ingest([folder / "calls.jsonl"], mapping=SEGMENT, lake=str(folder / "lake"))
    (folder / "frozen").mkdir()
    freeze_lake(folder / "lake", folder / "frozen")
    return pl.read_parquet(folder / "frozen/events.parquet").select(list(EVENT_SCHEMA)).sort("event_id")


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[Taking]:
    made = Taking(tmp_path / "log", convert=MappedReader(load_mapping(SEGMENT)).read)
    yield made
    made.close()


@contextmanager
def tracked(mapped: Taking, token: str | None = None) -> Iterator[httpx.Client]:
    with served(mapped, token=token, parse_call=MappedReader(load_mapping(SEGMENT)).parse) as client:
        yield client


def test_live_calls_become_the_events_of_a_file(mapped: Taking, tmp_path: Path) -> None:
    with tracked(mapped, "s3cret") as client:
        assert client.post("/v1/batch", json={"batch": CALLS}).status_code == 401
        answer = client.post("/v1/batch", json={"batch": CALLS}, auth=("s3cret", ""))
        assert answer.status_code == 200
        verdicts = [(one["status"], one.get("reasons", [])) for one in answer.json()["events"]]
        assert verdicts == [
            *[("accepted", [])] * 5,
            ("quarantined", ["event_name_unknown"]),
            ("quarantined", ["event_time_not_a_time"]),
            ("quarantined", ["no_track_call", "event_name_missing"]),
        ]
        alone = client.post("/v1/track", json=CALLS[1], auth=("s3cret", "")).json()
        assert [one["status"] for one in alone["events"]] == ["duplicate", "duplicate"], (
            "alone or among others, one content"
        )
    live, expected = mapped.tables()[0].sort("event_id"), from_file(tmp_path)
    assert expected["event_id"].to_list() == ["m1", "m2:0", "m2:1", "m3", "m4:0"]
    assert live.drop("session_id").to_dicts() == expected.drop("session_id").to_dicts()
    assert live["session_id"].to_list() == expected["session_id"].to_list()


def test_events_of_the_contract_and_calls_are_taken_side_by_side(mapped: Taking) -> None:
    with tracked(mapped) as client:
        assert client.post("/events", json=[event("a"), event("b")]).json()["accepted"] == 2
        assert client.post("/v1/track", json=CALLS[0]).json()["accepted"] == 1
    assert sorted(mapped.tables()[0]["event_id"]) == ["a", "b", "m1"]


def test_amounts_of_calls(mapped: Taking) -> None:
    with tracked(mapped) as client:
        client.post("/v1/batch", json={"batch": CALLS[:4]})
    amounts = dict(mapped.tables()[0].select("event_id", "amount").iter_rows())
    assert amounts == {"m1": None, "m2:0": 7.5, "m2:1": 1.0, "m3": None, "m4:0": 7.5}


def test_calls_that_wait_together_are_read_together_and_answered_apart() -> None:
    reader = MappedReader(load_mapping(SEGMENT))
    strange = {**call("m8", "Product Viewed"), "properties": {"products": "none"}}
    as_text = call("m9", "Order Completed", order_id="o2", products=[{**BREAD, "price": "2.5"}])
    records = [CALLS[1], strange, reader.parse("track", b"{")[0], CALLS[0], as_text]
    found = reader.read(records)
    assert [len(one) for one in found] == [2, 1, 1, 1, 1]
    assert found == [events for record in records for events in reader.read([record])]
    assert [one[0].reasons for one in found[1:]] == [("field_has_other_type",), ("not_json",), (), ()]


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param({"products": [1.5, {"product_id": "milk", "price": 2}]}, id="number-then-object"),
        pytest.param({"products": [{"product_id": "milk", "price": "2"}, {"price": 2}]}, id="price-text-then-number"),
        pytest.param({"products": [BREAD], "points": [2**70]}, id="integer-beyond-64-bits"),
        pytest.param({"products": [BREAD], "points": [0.5, "none"]}, id="number-then-text"),
    ],
)
@pytest.mark.parametrize("strange_first", [True, False])
def test_a_malformed_call_leaves_the_purchases_beside_it_as_they_are(
    strange: dict[str, Any], strange_first: bool
) -> None:
    reader = MappedReader(load_mapping(SEGMENT))
    good = call("m1", "Order Completed", order_id="o1", products=[BREAD, MILK], points=[2**53 + 1, 3])
    records = [call("m2", "Product List Viewed", **strange), good, CALLS[1]]
    records = records if strange_first else records[::-1]
    found = reader.read(records)
    assert found == [events for record in records for events in reader.read([record])]
    bought = [(one.event["item_id"], one.event["price"], one.event["quantity"]) for one in found[1]]
    assert bought == [("bread", 2.5, 3.0), ("milk", 1.0, 1.0)]


def test_a_large_integer_is_not_rounded_because_of_a_neighbour() -> None:
    reader, large = MappedReader(load_mapping(SEGMENT)), 2**53 + 1
    records = [call("m1", "Order Completed", products=[{**BREAD, "serial": serial}]) for serial in (large, 1.5)]
    ((first,), _) = reader.read(records)
    attributes = {pair["key"]: pair["value"] for pair in first.event["attributes"]}
    assert json.loads(attributes["properties.products"])["serial"] == large


def test_a_call_without_a_time_of_receipt_has_the_time_of_the_device() -> None:
    """RudderStack's libraries send `originalTimestamp`; its server adds `timestamp`, corrected for its clock."""
    reader, time = MappedReader(load_mapping(SEGMENT)), "2026-11-25T09:59:58.000Z"
    sent = {name: value for name, value in CALLS[0].items() if name != "timestamp"} | {"originalTimestamp": time}
    ((device,), (corrected,)) = reader.read([sent, {**CALLS[0], "originalTimestamp": time}])
    assert device.event["event_time"] == datetime(2026, 11, 25, 9, 59, 58, tzinfo=UTC)
    assert corrected.event["event_time"] == datetime(2026, 11, 25, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{", "not_json"), (b"[]", "not_an_object"), (b'{"batch": [7]}', "not_an_object"), (b"7", "not_an_object")],
)
def test_what_is_no_call(body: bytes, reason: str) -> None:
    (found,) = MappedReader(load_mapping(SEGMENT)).parse("batch", body)
    assert isinstance(found, Incoming)
    assert found.reasons == (reason,)


def test_the_context_of_a_batch_is_that_of_its_calls() -> None:
    reader = MappedReader(load_mapping(SEGMENT))
    body = {"context": {"device": {"type": "web"}}, "batch": [{k: v for k, v in CALLS[0].items() if k != "context"}]}
    ((event,),) = reader.read(reader.parse("batch", json.dumps(body).encode()))
    assert event.event["platform"] == "web"


def test_a_mapping_that_reads_tables_is_rejected() -> None:
    with pytest.raises(MappingError, match=r"must have one entry of events, without a join; it has \d"):
        MappedReader(load_mapping(ROOT / "events/mappings/complete_journey.yaml"))
