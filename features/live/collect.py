"""The collector with its followers, as one process: HTTP and Kafka in, the lake and the online store out."""

import logging
import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from events.collector.app import Collector
from events.collector.batcher import Batcher
from events.collector.followers import Compactor, Follower, Following, Pace
from events.collector.intake import Clock, Intake
from events.collector.kafka import KafkaSource, options
from events.collector.log import EventLog
from events.collector.mapped import MappedReader
from events.mapping import load_mapping
from expectations.suites import failing_reasons
from features.live.push import OnlinePush
from features.store import data_moment, places, read_state
from shoplens.errors import SettingsError
from shoplens.params import load_params
from shoplens.settings import Settings

_log = logging.getLogger(__name__)
_KEPT_SECONDS = 7_200  # the log keeps this much, for ids and sessions of a collector that starts again
_HOUSEKEEPING_SECONDS = 30.0
_COMPACT_RECORDS, _COMPACT_BYTES = 100_000, 32 << 20
_BACKLOG_RECORDS = 20_000_000  # may wait for a follower that cannot work, before senders are asked to wait
_FREE_BYTES = 256 << 20


@dataclass(frozen=True)
class Plan:
    """How a collector runs.

    Attributes:
        lake: Where events go.
        compact_seconds: How long an event may wait for that.
        online: Whether the last N events of users are pushed to the online store, too.
        mapping: Reads the calls of another tracker; None: only events of the contract are taken.
    """

    lake: Path
    compact_seconds: float
    online: bool = True
    mapping: Path | None = None


def _moment_of_data(settings: Settings) -> datetime:
    state = read_state(places(settings))
    if state is None:
        raise SettingsError(
            "SHOPLENS_CLOCK: the data's clock needs loaded data; run `shoplens materialize` first, or set it to wall"
        )
    return data_moment(places(settings), state).astimezone(UTC)


class Running:
    """A collector at work, until the stack is closed: then everything that was taken has reached the followers."""

    def __init__(self, settings: Settings, plan: Plan, stack: ExitStack) -> None:
        """Open the log, then what reads it, then what feeds it; the stack closes them the other way round.

        Raises:
            StageBusyError: another collector runs in this project.
            SettingsError: the data's clock has no data, or an option of Kafka is wrong.
        """
        self._home, self._full = settings.live_dir, ""
        mapped = None if plan.mapping is None else MappedReader(load_mapping(plan.mapping))
        clock = Clock() if settings.clock == "wall" else Clock(partial(_moment_of_data, settings))
        clock.limit()
        self._log = stack.enter_context(EventLog(self._home / "log"))
        identity = load_mapping(settings.root / load_params(settings.root / "params.yaml").data.mapping).identity
        pace = Pace(plan.compact_seconds, _COMPACT_RECORDS, _COMPACT_BYTES, same_batches=True)
        self._followers: list[Following] = []
        self._follow(Compactor(plan.lake, identity, self._log.id), pace, stack)
        if plan.online:
            self._follow(OnlinePush(settings, plan.lake), Pace(), stack)
        batcher = Batcher(Intake(self._log, failing_reasons, clock).take, mapped.read if mapped else None)
        stack.callback(batcher.close)
        self._kafka: KafkaSource | None = None
        if settings.kafka_servers is not None:
            config = options(settings.kafka_servers, settings.kafka_group, settings.kafka_options.get_secret_value())
            self._kafka = KafkaSource(config, settings.kafka_topics.split(","), batcher)
            stack.callback(self._kafka.close)
        self._ending = threading.Event()
        housekeeping = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        housekeeping.start()
        stack.callback(housekeeping.join)
        stack.callback(self._ending.set)
        token = settings.collector_token.get_secret_value() if settings.collector_token else None
        origins = [one.strip() for one in settings.collector_origins.split(",") if one.strip()]
        parse_call = mapped.parse if mapped else None
        self.app = Collector(batcher, self._status, lambda: self._full, token, origins, parse_call).app()

    def _follow(self, follower: Follower, pace: Pace, stack: ExitStack) -> None:
        self._followers.append(Following(self._log, follower, self._home, pace))
        stack.callback(self._followers[-1].close)

    def _keep_house(self) -> None:
        """Drop what all followers have passed, and see whether there is room, from time to time."""
        while not self._ending.wait(_HOUSEKEEPING_SECONDS):
            try:
                passed = min(follower.position for follower in self._followers)
                behind, free = self._log.end - passed, shutil.disk_usage(self._home).free
                self._full = ""
                if behind > _BACKLOG_RECORDS:
                    self._full = (
                        f"log: {behind:,} records wait for a follower, and {_BACKLOG_RECORDS:,} may; see /status"
                    )
                elif free < _FREE_BYTES:
                    self._full = f"disk: {free:,} bytes are free, and {_FREE_BYTES:,} must be"
                self._log.drop(passed, time.time() - _KEPT_SECONDS)
            except OSError as error:  # a full disk, for example: the log refuses by itself what it cannot write
                _log.warning("log: passed records cannot be dropped: %s; trying again", error)

    def _status(self) -> dict[str, Any]:
        """Return how far the log and its followers are."""
        log = self._log
        followers = {
            one.name: {"position": one.position, "behind_records": log.end - one.position, "problem": one.problem}
            for one in self._followers
        }
        status: dict[str, Any] = {"log": {"begin": log.begin, "end": log.end}, "followers": followers}
        if self._kafka is not None:
            status["kafka"] = {"taken": self._kafka.taken, "problem": self._kafka.problem}
        return status


def serve(settings: Settings, plan: Plan, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then until everything that was taken has reached the followers."""
    import uvicorn

    with ExitStack() as stack:
        app = Running(settings, plan, stack).app
        config = uvicorn.Config(app, host, port, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run()
