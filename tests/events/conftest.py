"""What the tests of ingest and of the lake share: a small shop, written as real files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from events.mapping import Mapping, load_mapping

HEAD = "name: shop\nidentity: user\ntime_zone: UTC\n"


@pytest.fixture
def mapping_of(tmp_path: Path) -> Callable[[str], Mapping]:
    """Return a function that writes the tables of a mapping after a common head and loads it."""

    def load(tables: str) -> Mapping:
        path = tmp_path / "shop.yaml"
        path.write_text(HEAD + tables)
        return load_mapping(path)

    return load


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes lines to a file below the test's folder."""

    def to(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return to
