"""Addresses inside records, lists of them, and files without a header."""

import json
from pathlib import Path

import polars as pl
import pytest

from shoplens.errors import MappingError, SourceError
from tests.read_source import read_source

ONE = """events:
  - table: log
    columns: {event_time: t, user_id: [who.id, guest], item_id: %s}
    constants: {event_name: view_item}
"""


def lines(*records: dict) -> list[str]:
    return [json.dumps(record) for record in records]


def read(mapping_of, write, tables: str, *records: dict):
    return read_source(mapping_of(tables), [write("log.jsonl", *lines(*records))])


def test_a_field_of_a_record_and_the_first_of_several(mapping_of, write) -> None:
    done = read(
        mapping_of,
        write,
        ONE % "what.sku",
        {"t": "2024-01-01", "who": {"id": "a"}, "guest": "g", "what": {"sku": 7}},
        {"t": "2024-01-02", "who": {"id": " "}, "guest": "g", "what": {"sku": 8}},
        {"t": "2024-01-03", "who": None, "guest": None, "what": {"sku": 9}},
    )
    assert done.events["user_id"].to_list() == ["a", "g"]
    assert done.events["item_id"].to_list() == ["7", "8"]
    assert done.accounts["log.jsonl"].quarantined == {"who_missing": 1}
    assert json.loads(done.quarantined["raw"][0])["what"] == '{"sku":9}'


def test_a_field_that_no_record_has_is_missing_and_a_column_that_is_not_there_is_an_error(mapping_of, write) -> None:
    record = {"t": "2024-01-01", "guest": "g", "who": {"id": "a"}}
    assert read(mapping_of, write, ONE % "who.item", record).events["item_id"].to_list() == [None]
    assert read(mapping_of, write, ONE % "what.sku", record).events["item_id"].to_list() == [None]
    with pytest.raises(MappingError, match=r"table log must have column\(s\) what; it has t, guest"):
        read(mapping_of, write, ONE.replace("[who.id, guest]", "guest") % "what", {"t": "2024-01-01", "guest": "g"})
    assert read(mapping_of, write, ONE % "what.sku" + "    optional: [what]\n", record).events.height == 1


@pytest.mark.parametrize(
    ("value", "expected"), [("x", "x"), ({"string_value": None, "int_value": 5}, "5"), ({"string_value": "y"}, "y")]
)
def test_a_key_in_a_list_of_pairs(mapping_of, write, value, expected: str) -> None:
    pairs = [{"key": "other", "value": value}, {"key": "page", "value": value}]
    record = {"t": "2024-01-01", "guest": "g", "params": pairs}
    assert read(mapping_of, write, ONE % '"params[page]"', record).events["item_id"].to_list() == [expected]
    assert read(mapping_of, write, ONE % '"params[none]"', record).events["item_id"].to_list() == [None]


def test_an_address_that_leads_to_no_list_of_pairs_says_so(mapping_of, write) -> None:
    record = {"t": "2024-01-01", "guest": "g", "params": [1, 2]}
    with pytest.raises(MappingError, match=r"address params\[page\]: params must be a list of records with key"):
        read(mapping_of, write, ONE % '"params[page]"', record)


EACH = ONE % "basket.sku" + "    each: basket\n"


def test_every_element_is_an_event_and_an_empty_list_is_one(mapping_of, write) -> None:
    twice = {"t": "2024-01-01", "guest": "g", "basket": [{"sku": "a"}, {"sku": "b"}, {"sku": "a"}]}
    done = read(mapping_of, write, EACH, twice, {"t": "2024-01-02", "guest": "g", "basket": []})
    # the same item twice in one basket is two events; the same record again is three duplicates
    assert sorted(done.events["item_id"].to_list(), key=str) == [None, "a", "a", "b"]
    assert done.events.height == 4
    again = read(mapping_of, write, EACH, twice, twice)
    account = again.accounts["log.jsonl"]
    assert (account.rows_in, account.accepted, account.exact_duplicates) == (6, 3, 3)


def test_ids_of_elements_follow_the_records_id(mapping_of, write) -> None:
    tables = EACH.replace("user_id:", "event_id: n, user_id:")
    record = {"t": "2024-01-01", "n": "m1", "guest": "g", "basket": [{"sku": "a"}, {"sku": "b"}]}
    bare = {"t": "2024-01-02", "n": "m2", "guest": "g", "basket": None}
    done = read(mapping_of, write, tables, record, bare)
    assert done.events["event_id"].to_list() == ["m1:0", "m1:1", "m2"]


def test_what_identifies_a_row_makes_its_id_whatever_else_the_file_holds(mapping_of, write) -> None:
    tables = EACH + "    identified_by: [n]\n"
    record = {"t": "2024-01-01", "n": "m1", "guest": "g", "basket": [{"sku": "a"}]}
    other = {"t": "2024-01-02", "n": "m2", "guest": "g", "basket": [{"sku": "b", "colour": "red"}], "more": 1}
    alone = read(mapping_of, write, tables, record).events["event_id"].to_list()
    beside = read(mapping_of, write, tables, record, other).events["event_id"].to_list()
    assert beside[:1] == alone


def test_each_must_be_a_list(mapping_of, write) -> None:
    done = read(mapping_of, write, EACH, {"t": "2024-01-01", "guest": "g", "basket": "a"})
    assert done.accounts["log.jsonl"].quarantined == {"field_has_other_type": 1}
    with pytest.raises(MappingError, match="each: the table must have basket"):
        read(mapping_of, write, EACH, {"t": "2024-01-01", "guest": "g"})
    tables = EACH + "    optional: [basket]\n"
    assert read(mapping_of, write, tables, {"t": "2024-01-01", "guest": "g"}).events.height == 1


def test_texts_that_stand_for_no_value(mapping_of, write) -> None:
    tables = ONE % "sku" + '    missing: ["(not set)"]\n'
    done = read(mapping_of, write, tables, {"t": "2024-01-01", "guest": "(not set)", "who": {"id": "a"}, "sku": "1"})
    assert done.events["user_id"].to_list() == ["a"]
    done = read(mapping_of, write, tables, {"t": "2024-01-01", "guest": "g", "who": {"id": "(not set)"}, "sku": "1"})
    assert done.accounts["log.jsonl"].quarantined in ({}, {"who_missing": 1})


HEADLESS = """events:
  - table: log
    csv: {separator: ";", header: [t, u, i]}
    columns: {event_time: t, user_id: u, item_id: i}
    constants: {event_name: view_item}
"""


@pytest.mark.parametrize("name", ["log.csv", "log.dat", "log.tsv"])
def test_a_file_without_a_header(mapping_of, write, name: str) -> None:
    done = read_source(mapping_of(HEADLESS), [write(name, "2024-01-01;u1;i1", "2024-01-02;u2;i2")])
    assert done.events["item_id"].to_list() == ["i1", "i2"]


def test_a_header_that_does_not_fit(mapping_of, write) -> None:
    with pytest.raises(SourceError, match=r"csv\.header: must name every column: it names 3, the file has 2"):
        read_source(mapping_of(HEADLESS), [write("log.csv", "2024-01-01;u1")])


def test_time_plus(mapping_of, write) -> None:
    tables = HEADLESS.replace("[t, u, i]", "[t, u, i, ms]") + "    time_plus: {column: ms, unit: ms}\n"
    done = read_source(mapping_of(tables), [write("log.csv", "2024-01-01;u1;i1;1500", "2024-01-01;u2;i2;soon")])
    assert done.events["event_time"].to_list()[0].isoformat() == "2024-01-01T00:00:01.500000+00:00"
    assert done.accounts["log.csv"].quarantined == {"event_time_not_a_time": 1}


def test_nested_columns_stay_attributes(mapping_of, write) -> None:
    done = read(
        mapping_of, write, ONE % "what.sku", {"t": "2024-01-01", "guest": "g", "what": {"sku": "7", "colour": "red"}}
    )
    kept = done.events["attributes"].explode().struct.unnest()
    assert dict(kept.iter_rows())["what"] == '{"colour":"red","sku":"7"}'  # keys sorted: live and from a file alike
    assert isinstance(done.events["attributes"].dtype, pl.List)


def test_identified_by_and_an_event_id_exclude_each_other(mapping_of) -> None:
    tables = ONE.replace("user_id:", "event_id: n, user_id:") % "sku" + "    identified_by: [n]\n"
    with pytest.raises(MappingError, match=r"columns\.event_id is the ID already"):
        mapping_of(tables)


def test_every_mapping_that_is_shipped_is_sound(root: Path) -> None:
    from events.mapping import load_mapping

    paths = sorted((root / "events/mappings").glob("*.yaml"))
    assert len(paths) >= 11
    for path in paths:
        assert load_mapping(path).name == path.stem
