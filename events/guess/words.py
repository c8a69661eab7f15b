"""What shops call their columns and events: words.yaml, and how names are compared with it."""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from shoplens.files import read_yaml


@cache
def words() -> dict[str, Any]:
    """Return words.yaml, with each text split at blanks."""

    def split(node: Any) -> Any:
        return {name: split(held) for name, held in node.items()} if isinstance(node, dict) else node.split()

    found: dict[str, Any] = split(read_yaml(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
    return found


def comparable(name: str) -> str:
    """Return a name in lower case, without accents, blanks and punctuation."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", errors="ignore").decode()
    return re.sub(r"[^a-z0-9]", "", letters.lower()) or name.strip().lower()
