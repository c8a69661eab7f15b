"""docker-compose.yml, .env.example and the Dockerfiles, read once."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="session")
def compose_text(root: Path) -> str:
    return (root / "docker-compose.yml").read_text()


@pytest.fixture(scope="session")
def compose(compose_text: str) -> dict[str, Any]:
    return yaml.safe_load(compose_text)


@pytest.fixture(scope="session")
def example(root: Path) -> dict[str, str]:
    """Variable -> value in .env.example."""
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (root / ".env.example").read_text(), flags=re.MULTILINE))
