"""Events out of a Kafka that speaks the real protocol: none lost, none twice, offsets after the effect."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.collector.app import collector_app
from events.collector.intake import Verdict
from events.collector.kafka import KafkaSource, options
from events.collector.records import Incoming
from shoplens.errors import SettingsError
from tests.events.collector.conftest import Taking, event

pytestmark = pytest.mark.stores
QUICK = '{"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}'  # else a group waits for a member that left


def produce(bootstrap: str, values: Sequence[bytes | None], partitions: int = 2) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap})
    for n, value in enumerate(values):
        producer.produce("shop", value, partition=n % partitions)
    assert producer.flush(20) == 0


def committed(bootstrap: str) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "shoplens"})
    places = consumer.committed([TopicPartition("shop", n) for n in range(2)], timeout=10)
    consumer.close()
    return sum(max(place.offset, 0) for place in places)


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_messages_become_events_once_and_offsets_follow(kafka: str, tmp_path: Path) -> None:
    values: list[bytes | None] = [json.dumps(event(f"e{n}")).encode() for n in range(200)]
    values += [
        b"{",
        None,
        json.dumps(event("e7")).encode(),
        json.dumps(event(None)).encode(),
        json.dumps(event(None)).encode(),
    ]
    produce(kafka, values)
    taking = Taking(tmp_path / "log")
    source = KafkaSource(options(kafka, "shoplens", QUICK), ["shop"], taking.batcher)
    until(lambda: source.taken == 204)
    until(lambda: committed(kafka) == 205)
    source.close()
    events, aside = taking.tables()
    # two equal events without an id are two: their places in Kafka tell them apart
    assert events.height == 202
    assert sorted(i for i in events["event_id"] if i.startswith("kafka:")) == ["kafka:shop:0:102", "kafka:shop:1:101"]
    assert aside["reasons"].to_list() == [["not_json"]]
    assert source.problem is None
    taking.close()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), ValueError("a fault of ours")])
def test_what_was_not_on_disk_comes_again(kafka: str, tmp_path: Path, fault: Exception) -> None:
    produce(kafka, [json.dumps(event(f"e{n}")).encode() for n in range(50)])
    tries = 0

    def fail_first(incoming: Sequence[Incoming]) -> list[Verdict]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise fault
        return taking.intake.take(incoming)

    taking = Taking(tmp_path / "log", take=fail_first)
    source = KafkaSource(options(kafka, "shoplens", QUICK), ["shop"], taking.batcher)
    until(lambda: source.taken >= 50)
    source.close()
    events, _ = taking.tables()
    assert sorted(events["event_id"].to_list()) == sorted(f"e{n}" for n in range(50))
    # A second collector of the group starts where the first committed: nothing comes.
    again = KafkaSource(options(kafka, "shoplens", QUICK), ["shop"], taking.batcher)
    produce(kafka, [json.dumps(event("last")).encode()])
    until(lambda: again.taken >= 1)
    again.close()
    assert taking.tables()[0].height == 51
    taking.close()


def test_a_consumer_that_fails_is_reported_and_tried_again(kafka: str, tmp_path: Path) -> None:
    produce(kafka, [json.dumps(event("a")).encode()])

    def take(incoming: Sequence[Incoming]) -> list[Verdict]:
        source._consumer.close()  # commit() and every consume() raise from now on, as after a fatal error
        return taking.intake.take(incoming)

    taking = Taking(tmp_path / "log", take=take)
    source = KafkaSource(options(kafka, "shoplens", QUICK), ["shop"], taking.batcher)
    until(lambda: source.taken == 1)
    until(lambda: source.problem == "Consumer closed")
    time.sleep(1)
    assert source.problem == "Consumer closed", "the thread lives"
    status = {"followers": {}, "kafka": {"taken": 1, "problem": source.problem}}
    app = collector_app(taking.batcher, lambda: status, lambda: "")

    async def ready() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector") as client:
            return (await client.get("/readyz")).json()

    assert asyncio.run(ready()) == {"ready": False, "problems": {"kafka": "Consumer closed"}}
    source.close()
    taking.close()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[1]", "must be a JSON object"),
        ("{", "must be a JSON object"),
        ('{"enable.auto.commit": true}', "enable.auto.commit must not be set"),
        ('{"enable.auto.offset.store": true}', "enable.auto.offset.store must not be set"),
    ],
)
def test_options_that_would_lose_events_are_rejected(more: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        options("127.0.0.1:9092", "g", more)


def test_options_add_to_ours() -> None:
    made: dict[str, Any] = options("h:1", "g", '{"security.protocol": "SSL"}')
    assert (made["security.protocol"], made["bootstrap.servers"], made["enable.auto.commit"]) == ("SSL", "h:1", False)
