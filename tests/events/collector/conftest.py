"""A collector's intake over a log in a temporary folder, and a Kafka that librdkafka itself plays."""

import ctypes
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from events.collector.intake import Batcher, Intake
from events.collector.log import EventLog
from events.collector.records import record_frames

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def no_negative_price(events: pl.DataFrame) -> pl.Series:
    """One rule, as a collector is given all of them."""
    bad = (pl.col("price") < 0).fill_null(value=False)
    return events.select(
        pl.when(bad).then(pl.lit(["price_negative"])).otherwise(pl.lit([], pl.List(pl.String)))
    ).to_series()


class Taking:
    """A log with an intake and a batcher on the data's clock, which stands at NOW."""

    def __init__(
        self,
        folder: Path,
        take: Callable[[Any], Any] | None = None,
        convert: Callable[[Any], Any] | None = None,
        now_of_data: Callable[[], datetime] | None = lambda: NOW,
    ) -> None:
        self.log = EventLog(folder)
        self.intake = Intake(self.log, no_negative_price, now_of_data)
        self.batcher = Batcher(take or self.intake.take, convert)

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        return record_frames(self.log.read(0, 1 << 30)[0])

    def close(self) -> None:
        self.batcher.close()
        self.log.close()


@pytest.fixture
def taking(tmp_path: Path) -> Iterator[Taking]:
    made = Taking(tmp_path / "log")
    yield made
    made.close()


def event(event_id: str | None, minute: float = 0, **more: Any) -> dict[str, Any]:
    """A view of bread by Ann, some minutes after 10:00."""
    when = datetime(2026, 11, 25, 10, tzinfo=UTC).timestamp() + minute * 60
    posted = {"event_time": datetime.fromtimestamp(when, UTC).isoformat(), "event_name": "view_item", "user_id": "ann"}
    return {"event_id": event_id, **posted, "item_id": "bread", **more}


@pytest.fixture
def kafka() -> Iterator[str]:
    """Addresses of a cluster of two brokers, made by librdkafka's own mock, which speaks the real protocol."""
    import confluent_kafka

    libraries = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    rd = ctypes.CDLL(str(next(libraries.glob("librdkafka*.so*"))))
    rd.rd_kafka_new.restype = rd.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    rd.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error = ctypes.create_string_buffer(512)
    handle = ctypes.c_void_p(rd.rd_kafka_new(0, None, error, ctypes.c_size_t(len(error))))
    assert handle.value, error.value
    cluster = ctypes.c_void_p(rd.rd_kafka_mock_cluster_new(handle, 2))
    yield rd.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    rd.rd_kafka_mock_cluster_destroy(cluster)
    rd.rd_kafka_destroy(handle)
