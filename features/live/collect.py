"""The collector process with its followers: from HTTP and Kafka to the lake and the online store."""

import logging
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from events.collector.app import collector_app
from events.collector.followers import Following
from events.collector.intake import Batcher, Intake
from events.collector.kafka import KafkaSource, options
from events.collector.log import EventLog, Record
from events.collector.mapped import MappedReader
from events.collector.records import record_frames
from events.lake import append_events
from events.mapping import load_mapping
from expectations.suites import failing_reasons
from features.live.push import OnlinePush
from features.store import data_moment, places, read_state
from shoplens.errors import SettingsError
from shoplens.params import load_params
from shoplens.settings import Settings

_log = logging.getLogger(__name__)
_KEPT_SECONDS = 7_200  # retention of the log, from which a restarted collector recovers IDs and sessions
_COMPACT_RECORDS, _COMPACT_BYTES = 100_000, 32 << 20
_BACKLOG_RECORDS = 20_000_000  # backlog of a failing follower at which senders are asked to retry
_FREE_BYTES = 256 << 20


def _moment_of_data(settings: Settings) -> datetime:
    state = read_state(places(settings))
    if state is None:
        raise SettingsError(
            "SHOPLENS_CLOCK: the data's clock needs loaded data; run `shoplens materialize` first, or set it to wall"
        )
    return data_moment(places(settings), state).astimezone(UTC)


def _follow(
    log: EventLog, settings: Settings, lake: Path, compact_seconds: float, online: bool, stack: ExitStack
) -> list[Following]:
    """Start the followers of a log: the online push and the compactor, which also drops processed records."""
    home, followers = settings.live_dir, list[Following]()
    if online:
        push = OnlinePush(settings, lake)
        followers.append(Following(log, "push", push.follow, home, push.rewind))
    pushed = [*followers]
    identity = load_mapping(settings.root / load_params(settings.root / "params.yaml").data.mapping).identity

    def compact(records: Sequence[Record]) -> None:
        batch = f"collector:{log.id}:{records[0].position}-{records[-1].position}"  # the lake deduplicates it
        append_events(lake, identity, *record_frames(records), batch)

    def drop(compacted: int) -> None:
        try:
            log.drop(min([compacted, *(one.position for one in pushed)]), time.time() - _KEPT_SECONDS)
        except OSError as error:  # a full disk, for example; the log itself rejects what it cannot write
            _log.warning("log: passed records cannot be dropped: %s; trying again", error)

    compacting = Following(
        log,
        "compact",
        compact,
        home,
        tidy=drop,
        seconds=compact_seconds,
        min_records=_COMPACT_RECORDS,
        max_bytes=_COMPACT_BYTES,
        same_batches=True,
    )
    followers.append(compacting)
    for one in followers:
        stack.callback(one.close)
    return followers


def _no_room(log: EventLog, followers: list[Following], home: Path) -> str:
    """Return why the collector accepts no more events; empty if it does."""
    behind, free = log.end - min(one.position for one in followers), shutil.disk_usage(home).free
    if behind > _BACKLOG_RECORDS:
        return f"log: {behind:,} records are waiting for a follower, and {_BACKLOG_RECORDS:,} may be; see /status"
    return f"disk: {free:,} bytes are free, and {_FREE_BYTES:,} must be" if free < _FREE_BYTES else ""


def _status(log: EventLog, followers: list[Following], kafka: KafkaSource | None) -> dict[str, Any]:
    """Return the positions of the log and its followers."""
    held = {
        one.name: {"position": one.position, "behind_records": log.end - one.position, "problem": one.problem}
        for one in followers
    }
    status: dict[str, Any] = {"log": {"begin": log.begin, "end": log.end}, "followers": held}
    return status if kafka is None else status | {"kafka": {"taken": kafka.taken, "problem": kafka.problem}}


def serve(
    settings: Settings,
    host: str,
    port: int,
    *,
    lake: Path,
    compact_seconds: float,
    online: bool = True,
    mapping: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then until all accepted events have reached the followers.

    Args:
        settings: Settings of the project.
        host: Address to bind.
        port: Port to bind.
        lake: The lake that receives the events.
        compact_seconds: Longest time before an event is written to the lake.
        online: Whether to push users' last N events to the online store, too.
        mapping: Mapping for another tracker's calls; None accepts only events of the contract.

    Raises:
        StageBusyError: another collector is running in this project.
        SettingsError: the data's clock has no data, or a Kafka option is invalid.
    """
    import uvicorn

    mapped = None if mapping is None else MappedReader(load_mapping(mapping))
    now_of_data = None if settings.clock == "wall" else partial(_moment_of_data, settings)
    if now_of_data is not None:
        now_of_data()  # before the first event needs it
    with ExitStack() as stack:  # closes the log's writers before its readers
        log = stack.enter_context(EventLog(settings.live_dir / "log"))
        followers = _follow(log, settings, lake, compact_seconds, online, stack)
        batcher = Batcher(Intake(log, failing_reasons, now_of_data).take, mapped.read if mapped else None)
        stack.callback(batcher.close)
        kafka: KafkaSource | None = None
        if settings.kafka_servers is not None:
            config = options(settings.kafka_servers, settings.kafka_group, settings.kafka_options.get_secret_value())
            kafka = KafkaSource(config, settings.kafka_topics.split(","), batcher)
            stack.callback(kafka.close)
        app = collector_app(
            batcher,
            partial(_status, log, followers, kafka),
            partial(_no_room, log, followers, settings.live_dir),
            settings.collector_token.get_secret_value() if settings.collector_token else None,
            [one.strip() for one in settings.collector_origins.split(",") if one.strip()],
            mapped.parse if mapped else None,
        )
        server = uvicorn.Server(uvicorn.Config(app, host, port, log_level="warning", access_log=False, lifespan="off"))
        # run() raises the signal again, which would end the process before the stack is closed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        server.run()
