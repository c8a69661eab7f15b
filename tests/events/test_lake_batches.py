"""Batches of events that came one by one, into the lake: each once, whatever is tried again."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError

from events.account import TableAccount
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.lake import Snapshot, append_events, freeze_lake, ingest_files, table
from events.mapping import Mapping
from events.sources.files import Size
from shoplens.errors import SourceError
from tests.lake_content import lake_digest
from tests.read_source import Ingested, append, lake_accounts, read_source


def events(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """Return views: (event_id, day of July 2024, item_id)."""
    made = [
        {
            "event_id": i,
            "event_time": datetime(2024, 7, day, 10, tzinfo=UTC),
            "event_name": "view_item",
            "item_id": item,
        }
        for i, day, item in rows
    ]
    frame = pl.DataFrame(made, schema_overrides={k: v for k, v in EVENT_SCHEMA.items() if k in made[0]} if made else {})
    absent = [pl.lit(None, dtype=kind).alias(n) for n, kind in EVENT_SCHEMA.items() if n not in frame.columns]
    filled = frame.with_columns(absent).with_columns(pl.col("event_time").alias("ingested_at"), user_id=pl.lit("ann"))
    return filled.select(pl.col(n).cast(kind) for n, kind in EVENT_SCHEMA.items())


NONE_ASIDE = pl.DataFrame(schema=QUARANTINE_SCHEMA)


def held(lake: Path, tmp_path: Path) -> list[tuple[str, str]]:
    target = tmp_path / f"frozen-{len(list(tmp_path.iterdir()))}"
    target.mkdir()
    freeze_lake(lake, target)
    return pl.read_parquet(target / "events.parquet").select("event_id", "item_id").rows()


def test_a_batch_is_taken_once_whatever_is_in_it(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = append_events(lake, "user", events(("1", 1, "a"), ("2", 2, "b")), NONE_ASIDE, "batch-1")
    assert first == TableAccount(2, 2)
    assert append_events(lake, "user", events(("1", 1, "a"), ("2", 2, "b")), NONE_ASIDE, "batch-1") == first
    assert append_events(lake, "user", events(("7", 3, "z")), NONE_ASIDE, "batch-1") == first
    assert held(lake, tmp_path) == [("1", "a"), ("2", "b")]


def test_what_the_lake_holds_and_what_comes_twice_is_no_second_event(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    append_events(lake, "user", events(("1", 1, "a")), NONE_ASIDE, "batch-1")
    aside = pl.DataFrame(
        {"table": ["collector"], "row": [None], "reasons": [["who_missing"]], "raw": ['{"a": 1}']},
        schema=QUARANTINE_SCHEMA,
    )
    # 1 is in the lake; 2 comes twice; 3 comes with two contents; 1 comes again, on another day: another content
    batch = events(("1", 1, "a"), ("2", 2, "b"), ("2", 2, "b"), ("3", 2, "c"), ("3", 2, "d"))
    account = append_events(lake, "user", batch, aside, "batch-2")
    # 5 events and 1 row set aside = accepted 2, 3 + quarantined 1 + 1 + duplicates 1, 2
    assert account == TableAccount(6, 2, {"event_id_with_other_content": 1, "who_missing": 1}, 2)
    other_day = append_events(lake, "user", events(("1", 5, "a")), NONE_ASIDE, "batch-3")
    assert other_day == TableAccount(1, 0, {"event_id_with_other_content": 1})
    assert held(lake, tmp_path) == [("1", "a"), ("2", "b"), ("3", "c")]


def test_a_commit_whose_answer_is_lost_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "lake"
    append_events(lake, "user", events(("1", 1, "a")), NONE_ASIDE, "batch-1")

    def commit_and_fail(*words: Any, retries: int | None = None) -> None:
        table.commit(*words, retries=retries)
        if retries == 0:  # the commit to the events
            raise CommitFailedError("the connection broke")

    monkeypatch.setattr("events.lake.commit.commit", commit_and_fail)
    assert append_events(lake, "user", events(("2", 2, "b")), NONE_ASIDE, "batch-2") == TableAccount(1, 1)
    assert held(lake, tmp_path) == [("1", "a"), ("2", "b")]
    assert [one["version"] for one in lake_accounts(lake)] == [1, Snapshot(lake).version] == [1, 2]
    assert list((lake / "pending").iterdir()) == []


def test_a_batch_of_nothing_but_rows_quarantined_is_kept(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    raw = json.dumps({"a": 1})
    aside = pl.DataFrame(
        {"table": ["collector"], "row": [None], "reasons": [["who_missing"]], "raw": [raw]}, schema=QUARANTINE_SCHEMA
    )
    assert append_events(lake, "user", events(("1", 1, "a")).clear(), aside, "b") == TableAccount(
        1, 0, {"who_missing": 1}
    )


def test_a_batch_of_another_identity_is_rejected(tmp_path: Path) -> None:
    append_events(tmp_path / "lake", "user", events(("1", 1, "a")), NONE_ASIDE, "batch-1")
    with pytest.raises(SourceError, match="identity is 'user'; batch batch-2 has 'session'"):
        append_events(tmp_path / "lake", "session", events(("2", 1, "a")), NONE_ASIDE, "batch-2")


TABLES = """\
events:
  - table: log
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
    items: {brand: brand}
"""


@pytest.fixture
def read(mapping_of, write) -> tuple[Mapping, Ingested]:
    """20 events of 10 days, of which two bring a brand, and a row that is set aside."""
    rows = [f"{n},2024-07-{1 + n // 2:02} 10:00:00,ann,item-{n},{'acme' if n in (3, 7) else ''}" for n in range(20)]
    mapping = mapping_of(TABLES)
    return mapping, read_source(mapping, [write("log.csv", "id,ts,who,sku,brand", *rows, "20,soon,ann,a,")])


def in_chunks(done: Ingested, size: int) -> Iterator[pl.DataFrame]:
    yield from done.labelled().iter_slices(size)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_chunks_are_one_append(read: tuple[Mapping, Ingested], tmp_path: Path, size: int) -> None:
    mapping, done = read
    for lake in (tmp_path / "whole", tmp_path / "chunked"):
        # 3 is held with other content, 5 just so
        some = done.events.filter(pl.col("event_id").is_in(["3", "5"]))
        changed = some.with_columns(
            pl.when(pl.col("event_id") == "3").then(pl.lit("z")).otherwise("item_id").alias("item_id")
        )
        append_events(lake, "user", changed, NONE_ASIDE, "before")
    whole = append(tmp_path / "whole", mapping, done)
    chunked = append(tmp_path / "chunked", mapping, done, chunks=lambda: in_chunks(done, size))
    assert chunked == whole
    # 21 rows = 18 accepted + 1 bad time + 1 clash + 1 duplicate
    reasons = {"event_time_not_a_time": 1, "event_id_with_other_content": 1}
    assert whole["log.csv"] == TableAccount(21, 18, reasons, 1)
    assert lake_digest(tmp_path / "chunked") == lake_digest(tmp_path / "whole")
    assert Snapshot(tmp_path / "chunked").version == 2


@pytest.mark.parametrize(
    ("other", "readings", "accepted"), [("100", 1, 20), ("4", 2, 19)], ids=["apart", "overlapping"]
)
def test_an_append_that_came_second_is_repeated_only_for_the_same_events(
    read: tuple[Mapping, Ingested], tmp_path: Path, other: str, readings: int, accepted: int
) -> None:
    mapping, done = read
    lake, begun = tmp_path / "lake", []

    def chunks() -> Iterator[pl.DataFrame]:
        begun.append(1)
        for n, chunk in enumerate(in_chunks(done, 10)):
            if n == 1 and len(begun) == 1:  # another writer is first, in the middle of our append
                event = done.events.filter(pl.col("event_id") == "4").with_columns(pl.lit(other).alias("event_id"))
                append_events(lake, "user", event, NONE_ASIDE, "other")
            yield chunk

    account = append(lake, mapping, done, chunks=chunks)["log.csv"]
    assert account == TableAccount(21, accepted, {"event_time_not_a_time": 1}, 20 - accepted)
    assert len(begun) == readings
    assert len(held(lake, tmp_path)) == accepted + 1
    assert Snapshot(lake).version == 2


def test_files_ingested_in_pieces_are_as_in_one(mapping_of, write, tmp_path: Path) -> None:
    mapping = mapping_of(TABLES + "users: {table: people, columns: {user_id: who, birth_year: born}}\n")
    rows = [f"{n},2024-07-{1 + n % 9:02} 10:{n % 60:02}:00,user-{n % 5},item-{n % 7},brand-{n}" for n in range(90)]
    # ids again, the same and with other content; rows that are set aside; another file of late events
    rows += [rows[3], rows[4].replace("item", "other"), "91,soon,ann,a,", "92,,ann,a,"]
    inputs = [
        write("1/log.csv", "id,ts,who,sku,brand", *rows),
        write("2/log.csv", "id,ts,who,sku,brand", "93,2024-06-01 10:00:00,ann,item-3,first", rows[5]),
        write("people.csv", "who,born", "ann,1980", "bob,soon"),
    ]
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for batch in (inputs[::2], inputs):
        accounts = append(whole, mapping, read_source(mapping, batch))
        brought = ingest_files(pieces, mapping, batch, lambda _: None, Size(rows=16, bytes=1 << 12))
        assert brought.accounts == accounts
    assert brought.late_days == ["2024-06-01"]
    assert lake_digest(pieces) == lake_digest(whole)
    assert [one["tables"] for one in lake_accounts(pieces)] == [one["tables"] for one in lake_accounts(whole)]
    version = Snapshot(pieces).version
    ingest_files(pieces, mapping, inputs, lambda _: None, Size(rows=16, bytes=1 << 12))
    assert Snapshot(pieces).version == version
