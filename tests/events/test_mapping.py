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
        ("item_id: sku", "sku: sku", 6, "no column of the contract: sku"),
        ("buy: purchase", "buy: bought", 7, "no event of the contract: bought"),
        ("    event_names:", "    event_nams:", 7, "event_nams"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    with pytest.raises(MappingError) as caught:
        load_mapping(write(tmp_path, GOOD.replace(old, new)))
    assert f"line {line}:" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["{", "- a", "\t- x: [", "name: [1"])
def test_no_yaml_and_no_mapping_are_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(MappingError, match=r"shop\.yaml"):
        load_mapping(write(tmp_path, text))


def test_a_reject_rule_has_exactly_one_test(tmp_path: Path) -> None:
    rule = "    reject: [{column: sku, reason: odd, equals: a, at_most: 3}]\n"
    with pytest.raises(MappingError, match="exactly one of equals, matches, at_most"):
        load_mapping(write(tmp_path, GOOD + rule))
