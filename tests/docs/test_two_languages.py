"""README.md and README.zh-CN.md say the same, in the same order."""

import re
from typing import Any

Page = Any  # tests/docs/conftest.py


def test_headings_have_the_same_levels(english: Page, chinese: Page) -> None:
    assert [level for level, _ in english.headings] == [level for level, _ in chinese.headings]


def test_blocks_are_equal(english: Page, chinese: Page) -> None:
    assert english.blocks == chinese.blocks
    assert len(english.blocks) > 4


def test_links_and_images_are_equal(english: Page, chinese: Page) -> None:
    assert english.links == chinese.links


def test_tables_have_the_same_shape_and_the_same_first_column(english: Page, chinese: Page) -> None:
    ours, theirs = english.rows, chinese.rows
    assert [len(row) for row in ours] == [len(row) for row in theirs]
    first = [(a[0], b[0]) for a, b in zip(ours, theirs, strict=True) if a[0].startswith(("`", "["))]
    assert len(first) > 30
    assert all(a == b for a, b in first)


def test_options_and_defaults_in_tables_are_equal(english: Page, chinese: Page) -> None:
    def options(page: Page) -> list[str]:
        return [cell for row in page.rows for cell in row[1:2] if re.fullmatch(r"(`--?[\w-]+`(, )?)+", cell)]

    assert options(english) == options(chinese)


def test_the_same_code_words_in_every_section(english: Page, chinese: Page) -> None:
    def by_section(page: Page) -> list[list[str]]:
        sections = re.split(r"^#+ .+$", page.prose, flags=re.MULTILINE)
        return [sorted(set(re.findall(r"`([^`\n]+)`", section))) for section in sections]

    assert by_section(english) == by_section(chinese)


def test_numbers_are_equal(english: Page, chinese: Page) -> None:
    def numbers(page: Page) -> list[str]:
        return re.findall(r"\d[\d,]*\d%?", page.prose)

    assert sorted(numbers(english)) == sorted(numbers(chinese))


def test_comments_are_equal(english: Page, chinese: Page) -> None:
    assert re.findall(r"<!--.*?-->", english.text, flags=re.DOTALL) == re.findall(
        r"<!--.*?-->", chinese.text, flags=re.DOTALL
    )


def test_chinese_is_chinese(chinese: Page) -> None:
    """A paragraph without a Chinese character was forgotten."""
    for paragraph in re.split(r"\n\n+", re.sub(r"<!--.*?-->", "", chinese.prose, flags=re.DOTALL)):
        plain = paragraph.strip()
        if plain and plain != "# ShopLens":
            assert re.search(r"[\u4e00-\u9fff]", plain), plain
