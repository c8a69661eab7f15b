"""Markdown pages taken apart: headings, fenced blocks, tables, links."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Page:
    """One Markdown page."""

    path: Path
    text: str

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @property
    def headings(self) -> list[tuple[int, str]]:
        return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", self.prose, flags=re.MULTILINE)]

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """(language, content) of every fenced block."""
        return re.findall(r"^```(\w*)\n(.*?)^```$", self.text, flags=re.MULTILINE | re.DOTALL)

    @property
    def commands(self) -> list[str]:
        """Every line of every bash block."""
        lines = [line for language, body in self.blocks if language == "bash" for line in body.splitlines()]
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def rows(self) -> list[list[str]]:
        """Every table row as its cells; separators left out."""
        lines = [line for line in self.prose.splitlines() if line.startswith("|") and not line.startswith("|---")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    @property
    def links(self) -> list[str]:
        """Targets of links and images, in order."""
        return re.findall(r"\]\(([^)]+)\)", self.prose)

    @property
    def code(self) -> list[str]:
        """Inline code, in order."""
        return re.findall(r"`([^`\n]+)`", self.prose)


def read(path: Path) -> Page:
    return Page(path, path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def english(root: Path) -> Page:
    return read(root / "README.md")


@pytest.fixture(scope="session")
def chinese(root: Path) -> Page:
    return read(root / "README.zh-CN.md")


@pytest.fixture(scope="session")
def pages(root: Path) -> list[Page]:
    """Every page that we wrote."""
    found = [root / "README.md", root / "README.zh-CN.md", root / "NOTICE.md", *sorted((root / "docs").rglob("*.md"))]
    return [read(path) for path in found]
