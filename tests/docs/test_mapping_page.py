"""docs/mapping.md names every key of a mapping and every column of the contract, and no other."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from events.contract import EVENT_NAMES, EVENT_SCHEMA, SIDE_SCHEMAS
from events.mapping import (
    Csv,
    DateAndTime,
    Elapsed,
    EventTable,
    FillDown,
    Join,
    Mapping,
    Rates,
    Reject,
    SideTable,
    TimePlus,
    load_mapping,
)

Page = Any  # tests/docs/conftest.py


@pytest.fixture
def sections(root: Path) -> dict[str, str]:
    text = (root / "docs/mapping.md").read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_column(section: str) -> set[str]:
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


@pytest.mark.parametrize(
    ("title", "model"),
    [("The file", Mapping), ("A table of events", EventTable), ("A side table", SideTable), ("Text files", Csv)],
)
def test_keys(sections: dict[str, str], title: str, model: Any) -> None:
    assert first_column(sections[title]) == set(model.model_fields)


def test_keys_within_keys_are_named(root: Path) -> None:
    text = (root / "docs/mapping.md").read_text()
    for model in (Reject, TimePlus, Join, Csv, DateAndTime, FillDown, Rates):
        for name in model.model_fields:
            assert re.search(rf"\b{name}\b", text), name
    assert Elapsed.__doc__


def test_columns_and_event_names(sections: dict[str, str]) -> None:
    assert first_column(sections["The contract"]) == set(EVENT_SCHEMA)
    named = set(re.findall(r"`(\w+)`", sections["The contract"]))
    assert set(EVENT_NAMES) <= named
    for schema in SIDE_SCHEMAS.values():
        assert set(schema) <= named


def test_the_examples_are_mappings(root: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (root / "docs/mapping.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    names = [Mapping.model_validate(yaml.safe_load(block)).name for block in blocks]
    assert names == ["my_shop", "german_shop", "receipts", "track_calls", "orders_export", "pieces", "clicks"]


def test_every_shipped_mapping_loads(root: Path) -> None:
    for path in (root / "events/mappings").glob("*.yaml"):
        assert load_mapping(path).name == path.stem
