"""`POST /events` over a real server: each event gets its verdict, and nothing is taken without an answer."""

import gzip
import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from events.collector.app import collector_app
from events.collector.intake import Verdict
from events.collector.records import Incoming
from shoplens.errors import StoreUnavailableError
from tests.events.collector.conftest import Taking, event

pytestmark = pytest.mark.stores
NDJSON = {"content-type": "application/x-ndjson"}


@contextmanager
def served(
    taking: Taking,
    full: str = "",
    token: str | None = None,
    origins: Sequence[str] = (),
    parse_call: Callable[[str, bytes], list[Any]] | None = None,
) -> Iterator[httpx.Client]:
    """A server on a free port of this machine."""
    problems = {"followers": {"push": {"problem": full or None}}}
    app = collector_app(taking.batcher, lambda: problems, lambda: full, token, origins, parse_call)
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
        answered = client.post("/events", content=lines, headers=NDJSON).json()
        assert [one["status"] for one in answered["events"]] == ["accepted", "quarantined", "quarantined"]
        assert answered["events"][2] == {
            "event_id": "f",
            "status": "quarantined",
            "reasons": ["price_negative"],
            "problem": "event: breaks the rule price_negative",
        }
    events, aside = taking.tables()
    assert (sorted(events["event_id"]), aside.height) == (["a", "b", "d", "e"], 3)


@pytest.mark.parametrize("body", [b"{", b"[1,", b"\xff", b'{"a": 1} x'])
def test_a_body_that_is_not_json_is_rejected_and_kept(taking: Taking, body: bytes) -> None:
    with served(taking) as client:
        answer = client.post("/events", content=body)
    assert answer.status_code == 400
    assert answer.json()["events"][0]["reasons"] == ["not_json"]
    assert answer.json()["events"][0]["problem"].startswith("body: ")
    assert taking.tables()[1]["reasons"].to_list() == [["not_json"]]


def test_requests_that_are_rejected_as_a_whole(taking: Taking) -> None:
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


def test_without_room_senders_are_asked_to_retry(taking: Taking) -> None:
    with served(taking, full="disk: 5 bytes are free, and 10 must be") as client:
        answer = client.post("/events", json=event("a"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"].startswith("disk: 5 bytes are free")
        assert client.get("/readyz").status_code == 503
    assert taking.log.end == 0


def test_a_token_where_one_is_set(taking: Taking) -> None:
    with served(taking, token="s3cret") as client:
        wrong = ("Bearer wrong", "s3cre", "s3cret", "Basic s3cret", "Basic " + b64encode(b"s3cre:").decode())
        for headers in ({}, *({"authorization": one.encode()} for one in (*wrong, "Basic é"))):
            rejected = client.post("/events", json=event("a"), headers=headers)
            assert rejected.status_code == 401
            assert "s3cret" not in rejected.text
        assert (
            client.post("/events", json=event("a"), headers={"authorization": "Bearer s3cret"}).json()["accepted"] == 1
        )
        # a write key, as Segment's libraries send it
        assert client.post("/events", json=event("b"), auth=("s3cret", "")).json()["accepted"] == 1


def test_many_senders_at_once(taking: Taking) -> None:
    statuses: list[str] = []

    def send(sender: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=20) as own:
            for number in range(25):
                answered = own.post("/events", json=event(f"{sender % 4}-{number}")).json()
                statuses.append(answered["events"][0]["status"])

    with served(taking) as client:
        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (statuses.count("accepted"), statuses.count("duplicate")) == (100, 100)
    assert taking.tables()[0].height == 100


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain; charset=utf-8", "application/json", "application/x-www-form-urlencoded", ""]
)
def test_lines_are_read_under_any_content_type(taking: Taking, kind: str) -> None:
    lines = "\n".join(json.dumps(event(name)) for name in ("a", "b"))
    with served(taking) as client:
        answer = client.post("/events", content=lines, headers={"content-type": kind} if kind else {})
        assert answer.json()["accepted"] == 2
        single = client.post("/events", content=json.dumps(event("c")), headers={"content-type": "text/plain"})
        many = client.post("/events", content=json.dumps([event("d")]), headers={"content-type": "text/plain"})
        assert (single.json()["accepted"], many.json()["accepted"]) == (1, 1)


def test_compressed_bodies(taking: Taking) -> None:
    gzipped = {"content-encoding": "gzip"}
    body = gzip.compress(json.dumps([event("a")]).encode())
    with served(taking) as client:
        assert client.post("/events", content=body, headers=gzipped).json()["accepted"] == 1
        for broken in (b"[1]", body[:-9], body[:20] + b"x" + body[21:]):
            answer = client.post("/events", content=broken, headers=gzipped)
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("body: must be gzip")
        bomb = client.post("/events", content=gzip.compress(b" " * (64 << 20)), headers=gzipped)
        assert (bomb.status_code, bomb.json()["error"][:40]) == (413, "body: must have at most 16,777,216 bytes")
        other = client.post("/events", content=body, headers={"content-encoding": "br"})
        assert (other.status_code, other.json()["error"]) == (
            415,
            "content-encoding: must be gzip or none; received 'br'",
        )
    assert taking.tables()[0]["event_id"].to_list() == ["a"]


def test_pages_of_allowed_origins_may_post(taking: Taking) -> None:
    preflight = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    with served(taking, origins=["https://shop.example"], token="s3cret") as client:
        allowed = client.options("/events", headers={"origin": "https://shop.example", **preflight})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://shop.example")
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        other = client.options("/events", headers={"origin": "https://evil.example", **preflight})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers
        headers = {"origin": "https://shop.example", "authorization": "Bearer s3cret"}
        posted = client.post("/events", json=event("a"), headers=headers)
        assert posted.headers["access-control-allow-origin"] == "https://shop.example"
    with served(taking) as client:
        assert client.options("/events", headers={"origin": "https://shop.example", **preflight}).status_code == 405


def test_a_full_disk_is_answered_and_ends_nothing(taking: Taking) -> None:
    with served(taking) as client:
        taking.log._writer.execute("PRAGMA query_only = ON")
        answer = client.post("/events", json=event("a"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"].startswith("log: cannot be written (attempt to write a readonly database)")
        problems = client.get("/readyz").json()["problems"]
        assert problems["intake"].startswith("log: cannot be written (attempt to write a readonly database)")
        taking.log._writer.execute("PRAGMA query_only = OFF")
        assert client.post("/events", json=event("a")).json()["accepted"] == 1
        assert client.get("/readyz").json() == {"ready": True, "problems": {}}


def test_a_dead_intake_is_not_ready(tmp_path: Path) -> None:
    def die(incoming: Sequence[Incoming]) -> list[Verdict]:
        raise SystemExit("killed")

    taking = Taking(tmp_path / "log", take=die)
    with served(taking) as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/events", json=event("a")).status_code == 503
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["problems"]["intake"].startswith("intake: stopped by SystemExit (killed)")
        end = time.monotonic() + 20
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end, "it never starts again"
            time.sleep(0.05)
    taking.close()


def test_an_unreadable_clock_of_the_data_is_answered_and_not_ready(tmp_path: Path) -> None:
    def now_of_data() -> datetime:
        raise StoreUnavailableError("state.json: cannot be read")

    taking = Taking(tmp_path / "log", now_of_data=now_of_data)
    with served(taking) as client:
        answer = client.post("/events", json=event("a"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "intake: state.json: cannot be read; send it again later"
        assert client.get("/readyz").json()["problems"] == {"intake": "intake: state.json: cannot be read"}
    taking.close()


def test_a_sender_that_leaves_takes_no_other_with_it(taking: Taking) -> None:
    with served(taking) as client:
        for _ in range(20):
            with socket.create_connection((client.base_url.host, client.base_url.port)) as leaving:
                body = json.dumps(event(None)).encode()
                leaving.sendall(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        assert client.post("/events", json=event("a")).json()["accepted"] == 1
        assert client.get("/readyz").status_code == 200
