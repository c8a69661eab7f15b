"""`POST /events` over a real server: each event its verdict, and nothing taken that was not answered."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from events.collector.app import Collector
from tests.events.collector.conftest import Taking, event

pytestmark = pytest.mark.stores
NDJSON = {"content-type": "application/x-ndjson"}


@contextmanager
def served(taking: Taking, full: str = "", token: str | None = None) -> Iterator[httpx.Client]:
    """A server on a free port of this machine."""
    problems = {"followers": {"push": {"problem": full or None}}}
    app = Collector(taking.batcher, lambda: problems, lambda: full, token).app()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()  # requests wait for the server from now on
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def test_one_event_a_list_and_lines(taking: Taking) -> None:
    with served(taking) as client:
        one = client.post("/events", json=event("a"))
        assert (one.status_code, one.json()) == (
            200,
            {"accepted": 1, "duplicate": 0, "quarantined": 0, "events": [{"event_id": "a", "status": "accepted"}]},
        )
        many = client.post("/events", json=[event("a"), event("b"), {"event_id": "c"}]).json()
        assert [one["status"] for one in many["events"]] == ["duplicate", "accepted", "quarantined"]
        assert many["events"][2]["reasons"] == ["event_time_missing", "event_name_missing", "who_missing"]
        assert many["events"][2]["problem"] == "event_time: must be given"
        wrapped = client.post("/events", json={"events": [event("d")]}).json()
        assert wrapped["accepted"] == 1
        lines = "\n".join([json.dumps(event("e")), "", "{", json.dumps(event("f", price=-2.0))])
        told = client.post("/events", content=lines, headers=NDJSON).json()
        assert [one["status"] for one in told["events"]] == ["accepted", "quarantined", "quarantined"]
        assert told["events"][2] == {
            "event_id": "f",
            "status": "quarantined",
            "reasons": ["price_negative"],
            "problem": "event: breaks the rule price_negative",
        }
    events, aside = taking.tables()
    assert (sorted(events["event_id"]), aside.height) == (["a", "b", "d", "e"], 3)


@pytest.mark.parametrize("body", [b"{", b"[1,", b"\xff", b'{"a": 1} x'])
def test_a_body_that_is_no_json_is_said_and_kept(taking: Taking, body: bytes) -> None:
    with served(taking) as client:
        answer = client.post("/events", content=body)
    assert answer.status_code == 400
    assert answer.json()["events"][0]["reasons"] == ["not_json"]
    assert answer.json()["events"][0]["problem"].startswith("body: ")
    assert taking.tables()[1]["reasons"].to_list() == [["not_json"]]


def test_what_is_refused_whole(taking: Taking) -> None:
    with served(taking) as client:
        assert client.post("/events", content=b" \n").status_code == 400
        large = client.post("/events", content=b" " * (17 << 20))
        assert (large.status_code, large.json()["error"]) == (
            413,
            "body: must have at most 16,777,216 bytes; send it in parts",
        )
        chunks = client.post("/events", content=iter([b" " * (9 << 20)] * 2))
        assert chunks.status_code == 413
        assert client.get("/events").status_code == 405
        assert client.get("/livez").json() == {"live": True}
    assert taking.log.end == 0


def test_without_room_senders_come_again(taking: Taking) -> None:
    with served(taking, full="disk: 5 bytes are free, and 10 must be") as client:
        answer = client.post("/events", json=event("a"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"].startswith("disk: 5 bytes are free")
        assert client.get("/readyz").status_code == 503
    assert taking.log.end == 0


def test_a_token_where_one_is_set(taking: Taking) -> None:
    with served(taking, token="s3cret") as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cre"}):
            refused = client.post("/events", json=event("a"), headers=headers)
            assert refused.status_code == 401
            assert "s3cret" not in refused.text
        assert (
            client.post("/events", json=event("a"), headers={"authorization": "Bearer s3cret"}).json()["accepted"] == 1
        )


def test_many_senders_at_once(taking: Taking) -> None:
    statuses: list[str] = []

    def send(sender: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=20) as own:
            for number in range(25):
                told = own.post("/events", json=event(f"{sender % 4}-{number}")).json()
                statuses.append(told["events"][0]["status"])

    with served(taking) as client:
        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (statuses.count("accepted"), statuses.count("duplicate")) == (100, 100)
    assert taking.tables()[0].height == 100
