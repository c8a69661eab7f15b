"""The collector with its followers, as one process: HTTP and Kafka in, the lake and the online store out."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from events.collector.app import Collector
from events.collector.batcher import Batcher
from events.collector.followers import Compactor, Following, Pace
from events.collector.intake import Clock, Intake
from events.collector.kafka import KafkaSource, options
from events.collector.log import EventLog
from events.collector.mapped import MappedReader
from events.mapping import load_mapping
from expectations.row_rules import event_rules, failing_reasons
from features.live.push import OnlinePush, missed
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
    """A collector at work. Made by `running`."""

    def __init__(self, settings: Settings, plan: Plan, stack: ExitStack) -> None:
        """Open the log, then what reads it, then what feeds it; the stack closes them the other way round."""
        home = settings.live_dir
        mapped = None if plan.mapping is None else MappedReader(load_mapping(plan.mapping))
        clock = Clock() if settings.clock == "wall" else Clock(partial(_moment_of_data, settings))
        clock.limit()
        self.log = stack.enter_context(EventLog(home / "log"))
        identity = load_mapping(settings.root / load_params(settings.root / "params.yaml").data.mapping).identity
        compactor = Compactor(plan.lake, identity, self.log.id)
        pace = Pace(plan.compact_seconds, _COMPACT_RECORDS, _COMPACT_BYTES, same_batches=True)
        self.followers = [Following(self.log, compactor, home, pace)]
        if plan.online:
            push = OnlinePush(settings, partial(missed, plan.lake))
            self.followers.append(Following(self.log, push, home, Pace()))
        for follower in self.followers:
            follower.start()
            stack.callback(follower.close, finish=True)
        self._home, self._full = home, ""
        event_rules()  # compiling the suite takes seconds: no event waits for it
        self.batcher = Batcher(Intake(self.log, failing_reasons, clock).take, mapped.read if mapped else None)
        stack.callback(self.batcher.close)
        self.kafka = self._kafka(settings, stack)
        self._housekeeper(stack)
        token = settings.collector_token.get_secret_value() if settings.collector_token else None
        origins = [one.strip() for one in settings.collector_origins.split(",") if one.strip()]
        self.app = Collector(
            self.batcher, self.status, self.full, token, origins, mapped.parse if mapped else None
        ).app()

    def _kafka(self, settings: Settings, stack: ExitStack) -> KafkaSource | None:
        if settings.kafka_servers is None:
            return None
        config = options(settings.kafka_servers, settings.kafka_group, settings.kafka_options.get_secret_value())
        source = KafkaSource(config, settings.kafka_topics.split(","), self.batcher)
        source.start()
        stack.callback(source.close)
        return source

    def _housekeeper(self, stack: ExitStack) -> None:
        ending = threading.Event()

        def run() -> None:
            while not ending.wait(_HOUSEKEEPING_SECONDS):
                try:
                    self._tidy()
                except OSError as error:  # a full disk, for example: the log refuses by itself what it cannot write
                    _log.warning("log: passed records cannot be dropped: %s; trying again", error)

        thread = threading.Thread(target=run, name="housekeeping", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ending.set)

    def _tidy(self) -> None:
        """Drop what all have passed, and see whether there is room."""
        passed = min(follower.position for follower in self.followers)
        behind, free = self.log.end - passed, shutil.disk_usage(self._home).free
        self._full = ""
        if behind > _BACKLOG_RECORDS:
            self._full = f"log: {behind:,} records wait for a follower, and {_BACKLOG_RECORDS:,} may; see /status"
        elif free < _FREE_BYTES:
            self._full = f"disk: {free:,} bytes are free, and {_FREE_BYTES:,} must be"
        self.log.drop(passed, time.time() - _KEPT_SECONDS)

    def full(self) -> str:
        """Say why no more events are taken; empty when they are."""
        return self._full

    def status(self) -> dict[str, Any]:
        """Say how far the log and its followers are."""
        status: dict[str, Any] = {
            "log": {"begin": self.log.begin, "end": self.log.end},
            "followers": {
                one.name: {
                    "position": one.position,
                    "behind_records": self.log.end - one.position,
                    "problem": one.problem,
                }
                for one in self.followers
            },
        }
        if self.kafka is not None:
            status["kafka"] = {"taken": self.kafka.taken, "problem": self.kafka.problem}
        return status


@contextmanager
def running(settings: Settings, plan: Plan) -> Iterator[Running]:
    """Run a collector while the block lasts; then everything that was taken reaches the followers.

    Raises:
        StageBusyError: another collector runs in this project.
        SettingsError: the data's clock has no data, or an option of Kafka is wrong.
    """
    with ExitStack() as stack:
        yield Running(settings, plan, stack)


def serve(settings: Settings, plan: Plan, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn

    with running(settings, plan) as collector:
        config = uvicorn.Config(collector.app, host, port, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run()
