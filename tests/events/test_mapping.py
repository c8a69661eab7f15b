from pathlib import Path

import pytest

from events.mapping import load_mapping
from shoplens.errors import MappingError

GOOD = """\
name: shop
identity: user
time_zone: UTC
events:
  - table: clicks
    columns: {event_time: ts, user_id: who, event_name: what, item_id: sku}
    event_names: {buy: purchase}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "shop.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["complete_journey", "rees46_electronics", "online_retail"])
def test_the_mappings_that_come_with_shoplens_are_valid(root: Path, name: str) -> None:
    assert load_mapping(root / f"events/mappings/{name}.yaml").name == name


def test_a_good_mapping_names_its_tables(tmp_path: Path) -> None:
    assert load_mapping(write(tmp_path, GOOD)).tables() == ("clicks",)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("identity: user", "identity: robot", 2, "robot"),
        ("time_zone: UTC", "time_zone: Moon/Base", 3, "Moon/Base"),
        ("user_id: who, ", "", 5, "user_id or anonymous_id must be given"),
        ("event_time: ts, ", "", 5, "event_time must be given"),
        ("item_id: sku", "sku: sku", 6, "unknown column: sku"),
        ("buy: purchase", "buy: bought", 7, "unknown event: bought"),
        ("    event_names:", "    event_nams:", 7, "event_nams"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    with pytest.raises(MappingError) as caught:
        load_mapping(write(tmp_path, GOOD.replace(old, new)))
    assert f"line {line}:" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["{", "- a", "\t- x: [", "name: [1"])
def test_no_yaml_and_no_mapping_are_reported(tmp_path: Path, text: str) -> None:
    with pytest.raises(MappingError, match=r"shop\.yaml"):
        load_mapping(write(tmp_path, text))


def test_a_reject_rule_has_exactly_one_test(tmp_path: Path) -> None:
    rule = "    reject: [{column: sku, reason: odd, equals: a, at_most: 3}]\n"
    with pytest.raises(MappingError, match="exactly one of equals, matches, at_most"):
        load_mapping(write(tmp_path, GOOD + rule))


FULL = (
    GOOD.replace("    event_names", "    constants: {currency: EUR}\n    event_names")
    + """\
    reject: [{column: sku, reason: odd, equals: a}]
items: {table: products, columns: {item_id: sku}}
"""
)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("{currency: EUR}", "{event_name: look}", 7, "event_name: unknown event: look"),
        ("{currency: EUR}", "{quantity: many}", 7, "quantity must be of type Float64: 'many' is not"),
        ("{currency: EUR}", "{quantity: .nan}", 7, "quantity must be of type Float64"),
        ("{currency: EUR}", "{position: 1.5}", 7, "position must be of type Int32"),
        ("{currency: EUR}", "{event_time: 2024}", 7, "event_time must come from a column"),
        ("{currency: EUR}", "{event_id: one}", 7, "event_id must come from a column"),
        ("item_id: sku", "attributes: sku", 6, "attributes are the columns that are not mapped"),
        ("{currency: EUR}", "{user_id: ann}", 5, "given twice, as a column and as a constant: user_id"),
        ("{column: sku, reason: odd, equals: a}", "{column: sku, reason: odd, matches: '('}", 9, "regular expression"),
        ("{column: sku, reason: odd, equals: a}", "{column: sku, reason: odd, matches: '(?=a)'}", 9, "look-around"),
        ("columns: {item_id: sku}}", "columns: {title: name}}", 10, "item_id must be mapped"),
        ("columns: {item_id: sku}}", "columns: {item_id: sku}, own: [brand]}", 10, "a column of the contract: brand"),
        ("time_zone: UTC", "time_zone: Europe", 3, "must be a time zone of the IANA database"),
        ("time_zone: UTC", "time_zone: localtime", 3, "must be a time zone of the IANA database"),
        ("time_zone: UTC", "time_zone: posixrules", 3, "must be a time zone of the IANA database"),
        ("time_zone: UTC", "time_zone: UTC\ningest_delay_seconds: .inf", 4, "ingest_delay_seconds"),
        ("time_zone: UTC", "time_zone: UTC\ningest_delay_seconds: 315576001", 4, "less than or equal to 315576000"),
        ("{buy: purchase}", "{}", 8, "must name the source's events"),
    ],
)
def test_what_only_fails_on_rows_is_rejected_before_any_is_read(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    # a mapping with all of it, valid; then one thing is wrong
    load_mapping(write(tmp_path, FULL))
    with pytest.raises(MappingError) as caught:
        load_mapping(write(tmp_path, FULL.replace(old, new, 1)))
    message = str(caught.value)
    assert "\n" not in message
    assert said in message
    assert f"line {line}:" in message


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nidentity: user\ntime_zone: UTC\nidentity: session\n")
    with pytest.raises(MappingError, match='line 4: a key must occur only once; found duplicate key "identity"'):
        load_mapping(path)


def test_a_wrong_entry_of_a_list_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nidentity: user\ntime_zone: UTC\nevents:\n  - {table: log, colums: {}}\n")
    with pytest.raises(MappingError) as caught:
        load_mapping(path)
    assert "events.0.colums: Extra inputs are not permitted" in str(caught.value)
    assert "at least 1 item" not in str(caught.value)
