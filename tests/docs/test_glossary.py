"""The glossary defines each term once, in order, in both languages."""

import re
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def terms(root: Path) -> list[list[str]]:
    """Return the cells of each row: term, Chinese term, meaning."""
    lines = (root / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return rows[1:]


def test_at_least_twenty_terms_are_defined_once_and_in_order(terms: list[list[str]]) -> None:
    names = [term for term, _, _ in terms]
    assert len(names) >= 20
    assert names == sorted(set(names), key=str.lower)


def test_each_term_has_a_chinese_name_and_a_meaning(terms: list[list[str]]) -> None:
    for term, chinese, meaning in terms:
        assert re.search(r"[\u4e00-\u9fff]", chinese), term
        assert meaning.endswith("."), term
