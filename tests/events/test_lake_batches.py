"""Batches of events that came one by one, into the lake: each once, whatever is tried again."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.lake import append_events, freeze_lake, read_frozen
from shoplens.errors import SourceError


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
    return read_frozen(target).events.select("event_id", "item_id").rows()


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


def test_a_batch_of_nothing_but_rows_set_aside_is_kept(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    raw = json.dumps({"a": 1})
    aside = pl.DataFrame(
        {"table": ["collector"], "row": [None], "reasons": [["who_missing"]], "raw": [raw]}, schema=QUARANTINE_SCHEMA
    )
    assert append_events(lake, "user", events(("1", 1, "a")).clear(), aside, "b") == TableAccount(
        1, 0, {"who_missing": 1}
    )


def test_a_batch_of_another_identity_is_refused(tmp_path: Path) -> None:
    append_events(tmp_path / "lake", "user", events(("1", 1, "a")), NONE_ASIDE, "batch-1")
    with pytest.raises(SourceError, match="identity is 'user'; batch batch-2 has 'session'"):
        append_events(tmp_path / "lake", "session", events(("2", 1, "a")), NONE_ASIDE, "batch-2")
