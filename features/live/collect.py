"""The collector with its followers, as one process: HTTP and Kafka in, the lake and the online store out."""

import logging
import shutil
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
_KEPT_SECONDS = 7_200  # the log keeps this much, for ids and sessions of a collector that starts again
_COMPACT_RECORDS, _COMPACT_BYTES = 100_000, 32 << 20
_BACKLOG_RECORDS = 20_000_000  # may wait for a follower that cannot work, before senders are asked to wait
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
    """Start the followers of a log: the online push, and the compactor, which then drops what both have passed."""
    home, followers = settings.live_dir, list[Following]()
    if online:
        push = OnlinePush(settings, lake)
        followers.append(Following(log, "push", push.follow, home, push.rewind))
    pushed = [*followers]
    identity = load_mapping(settings.root / load_params(settings.root / "params.yaml").data.mapping).identity

    def compact(records: Sequence[Record]) -> None:
        batch = f"collector:{log.id}:{records[0].position}-{records[-1].position}"  # which the lake takes once
        append_events(lake, identity, *record_frames(records), batch)
        try:
            passed = min([records[0].position - 1, *(one.position for one in pushed)])
            log.drop(passed, time.time() - _KEPT_SECONDS)
        except OSError as error:  # a full disk, for example: the log refuses by itself what it cannot write
            _log.warning("log: passed records cannot be dropped: %s; trying again", error)

    compacting = Following(
        log,
        "compact",
        compact,
        home,
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
    """Return why no more events can be taken; empty when they can."""
    behind, free = log.end - min(one.position for one in followers), shutil.disk_usage(home).free
    if behind > _BACKLOG_RECORDS:
        return f"log: {behind:,} records wait for a follower, and {_BACKLOG_RECORDS:,} may; see /status"
    return f"disk: {free:,} bytes are free, and {_FREE_BYTES:,} must be" if free < _FREE_BYTES else ""


def _status(log: EventLog, followers: list[Following], kafka: KafkaSource | None) -> dict[str, Any]:
    """Return how far the log and its followers are."""
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
    """Serve until SIGTERM or SIGINT, then until everything that was taken has reached the followers.

    Args:
        settings: Of the project.
        host: Address that it binds.
        port: Port that it binds.
        lake: Where events go.
        compact_seconds: How long an event may wait for that.
        online: Whether the last N events of users are pushed to the online store, too.
        mapping: Reads the calls of another tracker; None: only events of the contract are taken.

    Raises:
        StageBusyError: another collector runs in this project.
        SettingsError: the data's clock has no data, or an option of Kafka is wrong.
    """
    import uvicorn

    mapped = None if mapping is None else MappedReader(load_mapping(mapping))
    now_of_data = None if settings.clock == "wall" else partial(_moment_of_data, settings)
    if now_of_data is not None:
        now_of_data()  # before the first event asks for it
    with ExitStack() as stack:  # closes what feeds the log before what reads it
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
        uvicorn.Server(uvicorn.Config(app, host, port, log_level="warning", access_log=False, lifespan="off")).run()
