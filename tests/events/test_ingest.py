import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.contract import EVENT_SCHEMA
from events.mapping import load_mapping
from shoplens.errors import MappingError, SourceError
from tests.read_source import read_source

MAPPING = """\
name: shop
identity: user
time_zone: Europe/Berlin
ingest_delay_seconds: 60
events:
  - table: "*"
    columns: {event_time: ts, user_id: who, event_name: what, item_id: sku, quantity: n, price: p}
    constants: {currency: EUR}
    event_names: {buy: purchase, look: view_item}
    time_format: "%Y-%m-%d %H:%M:%S"
    amount: price * quantity
    negative_quantity: refund
    reject: [{column: p, at_most: -1, reason: book_keeping}]
    items: {category: {column: path, split: "."}}
"""
HEADER = "ts,who,what,sku,n,p,path,colour\n"
GOOD = "2024-07-01 12:00:00,ann,buy,s1,2,1.5,food.fruit,red\n"


def read(folder: Path, rows: str, name: str = "log.csv"):
    (folder / "shop.yaml").write_text(MAPPING)
    path = folder / name
    data = (HEADER + rows).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return read_source(load_mapping(folder / "shop.yaml"), [path])


def test_a_row_goes_to_the_contract(tmp_path: Path) -> None:
    done = read(tmp_path, GOOD)
    assert dict(done.events.schema) == EVENT_SCHEMA
    (event,) = done.events.to_dicts()
    # Berlin is two hours ahead of UTC in July; the delay is 60 s; the amount is 2 * 1.5
    assert event["event_time"] == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert event["ingested_at"] == datetime(2024, 7, 1, 10, 1, tzinfo=UTC)
    assert (event["event_name"], event["user_id"], event["amount"]) == ("purchase", "ann", 3.0)
    assert event["attributes"] == [{"key": "colour", "value": "red"}]
    assert event["session_id"] == f"ann-{int(event['event_time'].timestamp())}"
    assert done.items.select("item_id", "category").rows() == [("s1", "food > fruit")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("soon,ann,buy,s1,1,1,,", "event_time_not_a_time"),
        (",ann,buy,s1,1,1,,", "event_time_missing"),
        ("2024-02-30 12:00:00,ann,buy,s1,1,1,,", "event_time_not_a_time"),
        # the clock goes from 02:00 to 03:00 that night: half past two did not happen
        ("2024-03-31 02:30:00,ann,buy,s1,1,1,,", "event_time_skipped_hour"),
        ("2024-07-01 12:00:00,,buy,s1,1,1,,", "who_missing"),
        ("2024-07-01 12:00:00,ann,dance,s1,1,1,,", "event_name_unknown"),
        ("2024-07-01 12:00:00,ann,,s1,1,1,,", "event_name_missing"),
        ("2024-07-01 12:00:00,ann,buy,s1,many,1,,", "quantity_not_a_number"),
        ("2024-07-01 12:00:00,ann,buy,s1,1,-5,,", "book_keeping"),
    ],
)
def test_a_bad_row_is_quarantined_and_the_good_one_beside_it_goes_through(
    tmp_path: Path, row: str, reason: str
) -> None:
    done = read(tmp_path, GOOD + row + "\n")
    assert done.events.height == 1
    assert done.quarantined["reasons"].to_list()[0][0] == reason
    assert done.quarantined["row"].to_list() == [1]
    assert json.loads(done.quarantined["raw"][0])["sku"] == "s1"
    assert done.accounts["log.csv"] == TableAccount(2, 1, {reason: 1}, 0)


def test_a_return_is_a_refund_with_a_positive_quantity(tmp_path: Path) -> None:
    (event,) = read(tmp_path, "2024-07-01 12:00:00,ann,buy,s1,-3,2,,\n").events.to_dicts()
    assert (event["event_name"], event["quantity"], event["amount"]) == ("refund", 3.0, 6.0)


def test_identical_rows_are_duplicates_and_ids_are_the_same_when_read_again(tmp_path: Path) -> None:
    first = read(tmp_path, GOOD + GOOD + GOOD.replace("ann", "bob"))
    assert first.accounts["log.csv"] == TableAccount(3, 2, {}, 1)
    again = read(tmp_path, GOOD.replace("ann", "bob") + GOOD, "other.csv.gz")
    assert set(again.events["event_id"]) == set(first.events["event_id"])


def test_sessions_end_after_thirty_idle_minutes(tmp_path: Path) -> None:
    times = ["12:00:00", "12:30:00", "13:00:01"]  # gaps of 30:00 and 30:01
    rows = "".join(f"2024-07-01 {t},ann,look,s1,1,1,,\n" for t in times)
    sessions = read(tmp_path, rows).events["session_id"].to_list()
    assert sessions[0] == sessions[1] != sessions[2]


def test_the_same_rows_as_json_lines_and_parquet_give_the_same_events(tmp_path: Path) -> None:
    done = read(tmp_path, GOOD)
    frame = pl.read_csv(tmp_path / "log.csv", infer_schema=False)
    frame.write_ndjson(tmp_path / "log.jsonl")
    frame.write_parquet(tmp_path / "log.parquet")
    mapping = load_mapping(tmp_path / "shop.yaml")
    for name in ("log.jsonl", "log.parquet"):
        assert read_source(mapping, [tmp_path / name]).events.equals(done.events)


def test_one_id_with_two_contents_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(MAPPING.replace("item_id: sku", "item_id: sku, event_id: colour"))
    rows = GOOD + GOOD + GOOD.replace("s1", "s2")  # all of id "red": one again, one with another item
    (tmp_path / "log.csv").write_text(HEADER + rows)
    done = read_source(load_mapping(tmp_path / "shop.yaml"), [tmp_path / "log.csv"])
    assert done.accounts["log.csv"] == TableAccount(3, 1, {"event_id_with_other_content": 1}, 1)


def test_rows_of_a_second_file_that_a_first_has_are_duplicates(tmp_path: Path) -> None:
    read(tmp_path, GOOD, "a.csv")
    read(tmp_path, GOOD + GOOD.replace("ann", "bob"), "b.csv")
    done = read_source(load_mapping(tmp_path / "shop.yaml"), [tmp_path / "a.csv", tmp_path / "b.csv"])
    assert done.accounts["b.csv"] == TableAccount(2, 1, {}, 1)


def test_an_account_that_does_not_add_up_is_rejected() -> None:
    with pytest.raises(SourceError, match="3 rows in but 2 accounted for"):
        TableAccount(3, 1, {"x": 1}, 0)


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "log.csv").write_text("ts,who\n2024-07-01 12:00:00,ann\n")
    with pytest.raises(MappingError, match=r"column\(s\) what, sku, n, p, path; it has ts, who"):
        read_source(load_mapping(tmp_path / "shop.yaml"), [tmp_path / "log.csv"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.txt", b"x", "unknown kind of file"),
        ("log.parquet", b"no parquet", "cannot be read as parquet"),
        ("log.csv.gz", b"\x1f\x8bbroken", "cannot be read as csv.gz"),
        ("log.jsonl", b'{"a": ', "cannot be read as jsonl"),
    ],
)
def test_an_unreadable_file_is_reported(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=said):
        read_source(load_mapping(tmp_path / "shop.yaml"), [tmp_path / name])


@pytest.mark.parametrize(("time_format", "month"), [("%m/%d/%Y %H:%M", 12), ("%d/%m/%Y %H:%M", 1)])
def test_dates_that_begin_with_day_or_month_are_read_as_the_mapping_says(mapping_of, write, time_format, month) -> None:
    tables = (
        'events:\n  - table: "*"\n    columns: {event_time: t, user_id: u}\n'
        f'    constants: {{event_name: view_item}}\n    time_format: "{time_format}"\n'
    )
    done = read_source(mapping_of(tables), [write("log.csv", "t,u", "12/1/2009 7:45,u1")])
    assert (done.events["event_time"][0].month, done.events["event_time"][0].minute) == (month, 45)
