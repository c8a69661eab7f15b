"""Read events from Kafka: one event per message; an offset is committed only after its event is on disk."""

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from events.collector.intake import Batcher
from events.collector.records import Incoming, parse_event
from shoplens.errors import CollectorBusyError, SettingsError

_log = logging.getLogger(__name__)
_BATCH_MESSAGES = 5_000
_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 0.5
_PROBLEM_SECONDS = 60.0  # how long an error is reported; a lasting one is repeated
# We commit offsets ourselves, after the events are on disk; a new group starts at the earliest retained message.
_OURS = {"enable.auto.commit": False, "auto.offset.reset": "earliest"}


def options(bootstrap: str, group: str, more: str) -> dict[str, Any]:
    """Return librdkafka's configuration.

    Args:
        bootstrap: One or more HOST:PORT addresses.
        group: The consumer group.
        more: Further options as a JSON object, such as {"security.protocol": "SASL_SSL", …}.

    Raises:
        SettingsError: `more` is not a JSON object, or sets an option that would make the collector lose events.
    """
    try:
        given = json.loads(more or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise SettingsError(
            "SHOPLENS_KAFKA_OPTIONS: must be a JSON object of librdkafka's options; received something else"
        )
    taken = sorted(set(given) & {"enable.auto.commit", "enable.auto.offset.store"})
    if taken:
        raise SettingsError(
            f"SHOPLENS_KAFKA_OPTIONS: {taken[0]} must not be set: offsets are committed after the effect"
        )
    return {**_OURS, **given, "bootstrap.servers": bootstrap, "group.id": group}


def _read(messages: Sequence[Any]) -> list[Incoming]:
    """Check messages; an event without an ID gets one from its Kafka offset, which is the same on redelivery."""
    return [parse_event(one.value(), f"kafka:{one.topic()}:{one.partition()}:{one.offset()}") for one in messages]


class KafkaSource:
    """Reads topics in its own thread and submits their events to the batcher.

    Attributes:
        taken: Number of messages on disk.
    """

    def __init__(self, config: Mapping[str, Any], topics: list[str], batcher: Batcher) -> None:
        """Subscribe and start reading."""
        from confluent_kafka import Consumer

        self._problem, self._noted = "", 0.0
        self.taken = 0
        self._batcher, self._ending = batcher, threading.Event()
        self._consumer = Consumer({**config, "error_cb": self._note, "logger": _log})
        self._consumer.subscribe(topics)
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """The latest error of Kafka or the collector; None after a batch succeeds, or a minute without an error."""
        if not self._thread.is_alive() and not self._ending.is_set():
            return "its thread has died; restart the collector"
        return self._problem or None if time.monotonic() < self._noted + _PROBLEM_SECONDS else None

    def close(self) -> None:
        """Stop after the current batch; uncommitted messages are redelivered."""
        self._ending.set()
        self._thread.join()
        self._consumer.close()

    def _note(self, error: Any) -> None:
        self._problem, self._noted = str(error) or type(error).__name__, time.monotonic()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._step()
            # Catch everything: nobody would notice that the thread died. Only consume() and commit() get here; messages
            # whose commit failed are redelivered without effect, because their IDs are known.
            except BaseException as error:  # noqa: BLE001
                self._note(error)
                self._ending.wait(_PAUSE_SECONDS)

    def _step(self) -> None:
        batch = self._consumer.consume(_BATCH_MESSAGES, _POLL_SECONDS)
        for error in (message.error() for message in batch if message.error() is not None):
            self._note(error)
        messages = [message for message in batch if message.error() is None]
        if messages and self._take([message for message in messages if message.value() is not None]):
            self._consumer.commit(asynchronous=False)  # all consumed messages are on disk

    def _take(self, messages: list[Any]) -> bool:
        """Submit messages, retrying until they are on disk; return False if the collector stops first."""
        size = sum(len(message.value()) for message in messages)
        while not self._ending.is_set():
            try:
                self._batcher.submit(partial(_read, messages), size).result()
            # Catch everything: nobody would notice that the thread died. Kafka keeps the messages meanwhile.
            except BaseException as error:  # noqa: BLE001
                if self.problem is None and not isinstance(error, CollectorBusyError | OSError):
                    _log.warning("kafka: messages cannot be taken; trying again", exc_info=True)
                self._note(error)
                self._ending.wait(_PAUSE_SECONDS)
            else:
                self._problem = ""
                self.taken += len(messages)
                return True
        return False
