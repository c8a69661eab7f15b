"""Common names of columns and events in shops' data (words.yaml), and how to compare names with them."""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from shoplens.yaml_file import read_yaml


@cache
def words() -> dict[str, Any]:
    """Return words.yaml."""
    found: dict[str, Any] = read_yaml(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return found


def comparable(name: str) -> str:
    """Return a name in lower case, without accents, spaces or punctuation."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", errors="ignore").decode()
    return re.sub(r"[^a-z0-9]", "", letters.lower()) or name.strip().lower()
